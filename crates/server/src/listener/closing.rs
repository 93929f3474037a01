//! Closes a listening socket without losing a connection that a client considers established.
//!
//! The system completes connections before they are accepted, and resets the connections in the
//! queue when the socket is closed. Accepting until the queue is empty is not enough, because
//! another connection may come before the socket is closed. A close therefore has three steps:
//!
//! 1. A filter makes the system drop the first segment of new connections. The client retries, and
//!    is then refused or reaches another process.
//! 2. Handshakes in progress get time to complete.
//! 3. All connections in the queue are accepted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::prepared;

/// How long a handshake in progress may take: a few round trips to a distant client.
const HANDSHAKE: Duration = Duration::from_millis(250);

/// A listening socket that accepts no new connections.
pub(super) struct Closing {
    listener: TcpListener,
    /// When all handshakes in progress are considered complete.
    settled_at: Instant,
}

impl Closing {
    /// Begins to close a socket; `grace` is how long the whole stop may take.
    pub(super) fn begin(listener: TcpListener, grace: Duration) -> Self {
        if let Err(error) = refuse_new(&listener) {
            // Without the filter, a client that connects during the close may be reset.
            tracing::debug!(%error, "new connections cannot be distinguished from active ones");
        }
        Self { listener, settled_at: Instant::now() + HANDSHAKE.min(grace / 4) }
    }

    /// Accepts a connection from the queue; none if all have been accepted.
    pub(super) async fn next(
        &self,
        permits: &Arc<Semaphore>,
    ) -> Option<io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)>> {
        // No idle connection is closed to free a permit: all of them end soon anyway.
        let permit = match Arc::clone(permits).acquire_owned().await {
            Ok(permit) => permit,
            Err(error) => return Some(Err(io::Error::other(error))),
        };
        if let Ok(accepted) = timeout_at(self.settled_at, self.listener.accept()).await {
            return Some(accepted.map(|(stream, peer)| (prepared(stream), peer, permit)));
        }
        // Asks the system directly, because the runtime's readiness of the socket may be stale.
        match SockRef::from(&self.listener).accept() {
            Ok((socket, peer)) => Some(taken(socket, &peer).map(|(it, peer)| (it, peer, permit))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
        }
    }
}

fn taken(socket: socket2::Socket, peer: &socket2::SockAddr) -> io::Result<(TcpStream, SocketAddr)> {
    socket.set_nonblocking(true)?;
    let peer = peer.as_socket().ok_or_else(|| io::Error::other("the peer has no address"))?;
    Ok((prepared(TcpStream::from_std(socket.into())?), peer))
}

/// Makes the system drop segments that begin a connection.
#[cfg(target_os = "linux")]
fn refuse_new(listener: &TcpListener) -> io::Result<()> {
    use socket2::SockFilter;

    /// Classic BPF (linux/filter.h): load a byte of the TCP header; jump if a bit of it is set;
    /// return how many bytes of the segment are kept.
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    /// The offset of the flags in a TCP header, and the flag SYN (RFC 9293, section 3.1).
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;

    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(JUMP_IF_SET, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

#[cfg(not(target_os = "linux"))]
fn refuse_new(_listener: &TcpListener) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
