//! The end of connections whose client is still sending. If they were closed at once, the system
//! would reset them, and the client would never read why it was refused. So the client's bytes are
//! read and discarded for a while, as nginx does (`lingering_close`).

use std::sync::LazyLock;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

/// The longest total time of reading.
const MAX_TIME: Duration = Duration::from_secs(30);
/// The longest time without a byte.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// The most bytes that are read: twice the largest body that the default settings permit.
const MAX_BYTES: u64 = 128 * 1024 * 1024;
/// The size of the read buffer, in bytes.
const PIECE: usize = 16 * 1024;
/// The most connections that linger; more are closed at once.
const MAX_LINGERING: usize = 256;

static LINGERING: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(MAX_LINGERING));

/// Shuts down the sending half, and discards what comes until the client closes or has had enough
/// time to read its answer.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let Ok(_turn) = LINGERING.try_acquire() else { return };
    let end = Instant::now() + MAX_TIME;
    if !matches!(timeout(MAX_PAUSE, stream.shutdown()).await, Ok(Ok(()))) {
        return;
    }
    let mut piece = vec![0; PIECE];
    let mut left = MAX_BYTES;
    while left > 0 {
        let next = end.min(Instant::now() + MAX_PAUSE);
        match timeout_at(next, stream.read(&mut piece)).await {
            Ok(Ok(count)) if count > 0 => {
                left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
            }
            _ => return,
        }
    }
}
