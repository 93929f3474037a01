//! The end of a listening socket: nothing that a client holds for a connection may be lost with it.
//!
//! The system completes connections before they are accepted, and resets those that still wait when
//! the socket is closed. Accepting until none waits is not enough: another may come before the
//! socket is closed. So the system is first told to drop the beginnings of new connections (a client
//! tries again, and is refused by then or finds another process), those whose handshake is under way
//! get the time to end it, and then all that wait are accepted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::prepared;

/// How long a handshake that has begun may take to its end: a few times the way to a client far away.
const HANDSHAKE: Duration = Duration::from_millis(250);

/// A listening socket that lets nobody new in.
pub(super) struct Closing {
    listener: TcpListener,
    /// When all handshakes that had begun have ended.
    settled_at: Instant,
}

impl Closing {
    /// Begins to close a socket; `grace` is how long the whole end may take.
    pub(super) fn begin(listener: TcpListener, grace: Duration) -> Self {
        if let Err(error) = refuse_new(&listener) {
            // Then who connects in the very moment of the end may be reset.
            tracing::debug!(%error, "new connections cannot be distinguished from active ones");
        }
        Self { listener, settled_at: Instant::now() + HANDSHAKE.min(grace / 4) }
    }

    /// A connection that was waiting; none where all have been accepted.
    pub(super) async fn next(
        &self,
        permits: &Arc<Semaphore>,
    ) -> Option<io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)>> {
        // Nobody gives way to them any more: all are about to end.
        let permit = match Arc::clone(permits).acquire_owned().await {
            Ok(permit) => permit,
            Err(error) => return Some(Err(io::Error::other(error))),
        };
        if let Ok(accepted) = timeout_at(self.settled_at, self.listener.accept()).await {
            return Some(accepted.map(|(stream, peer)| (prepared(stream), peer, permit)));
        }
        // Asks the system itself: what the runtime knows of the socket may be a moment old.
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

/// Has the system drop segments that begin a connection.
#[cfg(target_os = "linux")]
fn refuse_new(listener: &TcpListener) -> io::Result<()> {
    use socket2::SockFilter;

    /// Classic BPF (linux/filter.h): load a byte of the TCP header; jump if a bit of it is set;
    /// return how many bytes of the segment are kept.
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    /// Where the flags of a TCP header are, and the flag SYN (RFC 9293, section 3.1).
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
