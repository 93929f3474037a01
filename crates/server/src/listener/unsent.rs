//! Tracks the pieces of answers that are being sent: since when, and for which request.
//!
//! The HTTP library takes a piece at once, however large it is, and keeps it until the client has
//! received all of it. So the end of a body does not mean that it was sent.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::idle::UnderWay;

/// Pieces up to this size are not tracked, because they fit into the connection's own buffers.
const NOTED_BYTES: usize = super::SEND_BUFFER;
/// No piece is being sent.
const NONE: u64 = u64::MAX;

/// The pieces of a connection's answers that are being sent.
#[derive(Debug)]
pub(super) struct Unsent {
    /// The instant that times are relative to.
    start: Instant,
    /// When the oldest piece was handed over, in milliseconds; [`NONE`] if there is none. It is
    /// atomic because every read and write of the connection checks it.
    oldest_ms: AtomicU64,
    /// The number of each piece, and when it was handed over; the oldest piece is first.
    pieces: Mutex<Pieces>,
}

#[derive(Debug, Default)]
struct Pieces {
    next: u64,
    under_way: VecDeque<(u64, u64)>,
}

impl Default for Unsent {
    fn default() -> Self {
        Self { start: Instant::now(), oldest_ms: AtomicU64::new(NONE), pieces: Mutex::default() }
    }
}

/// A piece that is tracked until it is sent.
struct Piece {
    bytes: Bytes,
    number: u64,
    under_way: Arc<UnderWay>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.under_way.requests().unsent().forget(self.number);
    }
}

impl Unsent {
    /// Wraps a piece of an answer. A large piece is tracked until the last of its bytes is dropped.
    /// Nothing is copied.
    pub(super) fn piece(&self, bytes: Bytes, under_way: Arc<UnderWay>) -> Bytes {
        if bytes.len() <= NOTED_BYTES {
            return bytes;
        }
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(NONE);
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let number = pieces.next;
        pieces.next = number.wrapping_add(1);
        pieces.under_way.push_back((number, now));
        self.note_oldest(&pieces);
        drop(pieces);
        Bytes::from_owner(Piece { bytes, number, under_way })
    }

    /// Since when the oldest piece is being sent; none if no piece is.
    pub(super) fn since(&self) -> Option<Instant> {
        let oldest = self.oldest_ms.load(Ordering::Relaxed);
        (oldest != NONE).then(|| self.start + Duration::from_millis(oldest))
    }

    fn forget(&self, number: u64) {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.under_way.retain(|(of, _)| *of != number);
        self.note_oldest(&pieces);
    }

    fn note_oldest(&self, pieces: &Pieces) {
        let oldest = pieces.under_way.front().map_or(NONE, |(_, since)| *since);
        self.oldest_ms.store(oldest, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::super::idle::Requests;
    use super::*;

    #[tokio::test]
    async fn a_request_is_under_way_until_the_last_byte_of_its_large_answer_is_dropped() {
        let requests = Arc::<Requests>::default();
        for (size, is_noted) in [(NOTED_BYTES, false), (NOTED_BYTES + 1, true)] {
            let answers = [(); 2].map(|()| {
                let body = Full::new(Bytes::from(vec![b'x'; size]));
                requests.begin(true).with(body)
            });
            assert!(requests.idle_since().is_none());
            let mut pieces = Vec::new();
            for mut answer in answers {
                // The HTTP library keeps the piece and is done with the body.
                pieces.push(answer.frame().await.unwrap().unwrap().into_data().unwrap());
            }
            assert_eq!(requests.idle_since().is_none(), is_noted, "{size}");
            assert_eq!(requests.unsent().since().is_some(), is_noted, "{size}");
            // A part of the bytes keeps the whole piece alive.
            let part = pieces.remove(0).split_off(1);
            pieces.clear();
            assert_eq!(requests.unsent().since().is_some(), is_noted, "{size}");
            drop(part);
            assert!(requests.idle_since().is_some() && requests.unsent().since().is_none());
        }
    }
}
