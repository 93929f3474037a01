//! Connections that end while their client is still sending: to close at once makes the system reset
//! them, and the client never reads why it was refused. So what it sends is read and thrown away for
//! a while, as nginx does (`lingering_close`).

use std::sync::LazyLock;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

/// How long it is read in all.
const MAX_TIME: Duration = Duration::from_secs(30);
/// How long nothing may come.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// The most that is read: twice the largest body that can be set up by default.
const MAX_BYTES: u64 = 128 * 1024 * 1024;
/// What is read at once.
const PIECE: usize = 16 * 1024;
/// The most connections that linger; more are closed at once.
const MAX_LINGERING: usize = 256;

static LINGERING: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(MAX_LINGERING));

/// Says that nothing more will be sent, and throws away what comes, until the client closes or has
/// had time enough to read its answer.
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
