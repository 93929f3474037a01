//! Bodies that are written while they are sent, by a task of their own. The task gives up if the
//! client reads nothing for long. A failure closes the connection before the end of the body, so
//! that no client takes a part for the whole.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use fireflow_domain::error::BoxError;
use futures_util::stream;
use poem::Body;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The longest time that a client may take to accept the next piece.
const MAX_STALL: Duration = Duration::from_secs(30);

/// A message from the writing side to the sending side. A body without `End` was interrupted.
enum Piece {
    Text(Bytes),
    End,
}

/// The writing side of a body.
pub(crate) struct Pieces(mpsc::Sender<Piece>);

/// A body and its writing side. Up to `ahead` pieces may wait to be sent.
pub(crate) fn body(ahead: usize) -> (Pieces, Body) {
    let (sender, receiver) = mpsc::channel(ahead);
    let body = Body::from_bytes_stream(stream::try_unfold(receiver, |mut receiver| async move {
        match receiver.recv().await {
            Some(Piece::Text(text)) => Ok(Some((text, receiver))),
            Some(Piece::End) => Ok(None),
            None => Err(io::Error::other("the response was interrupted")),
        }
    }));
    (Pieces(sender), body)
}

impl Pieces {
    /// Sends the next piece.
    ///
    /// # Errors
    /// Returns an error if the client has disconnected, or does not read.
    pub(crate) async fn send(&self, text: Vec<u8>) -> Result<(), BoxError> {
        // An empty piece could be taken for the end.
        if text.is_empty() { Ok(()) } else { self.hand_over(Piece::Text(text.into())).await }
    }

    /// Ends the body.
    ///
    /// # Errors
    /// Returns an error if the client has disconnected, or does not read.
    pub(crate) async fn end(self) -> Result<(), BoxError> {
        self.hand_over(Piece::End).await
    }

    /// Waits until the client has disconnected.
    pub(crate) async fn gone(&self) {
        self.0.closed().await;
    }

    async fn hand_over(&self, piece: Piece) -> Result<(), BoxError> {
        timeout(MAX_STALL, self.0.send(piece))
            .await
            .map_err(|_| "the client does not read the response")?
            .map_err(|_| "the client has disconnected".into())
    }
}
