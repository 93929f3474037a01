//! The listener: accepts connections up to a limit, bounds their time and size, terminates TLS if a
//! certificate is set, and ends the connections when the service stops.
//!
//! The framework's own server limits neither the time and size of a request's head nor the number
//! of connections. And if the system refuses a connection for lack of resources, that server
//! retries without a pause (see ADR 15).

mod closing;
mod crowd;
mod idle;
mod linger;
mod tls;
mod unsent;

pub use tls::{Certificate, TlsError, TlsFiles};

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use poem::http::uri::Scheme;
use poem::http::{HeaderValue, Version, header};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Endpoint, Request, Response};
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use closing::Closing;
use crowd::{Crowd, Member};
use idle::Bounded;

/// How long to wait before the next accept after the system refused a connection for lack of
/// resources.
const PAUSE: Duration = Duration::from_millis(50);
/// How long an idle connection is kept when the service stops. A client may have sent a request
/// that has not arrived yet. Such a request is answered, and the answer announces that the
/// connection closes.
const LINGER: Duration = Duration::from_secs(2);
/// The most requests at once on one connection of HTTP/2.
const MAX_STREAMS: u32 = 128;
/// How many bytes of bodies a client of HTTP/2 may send before they are read: on each stream, and on
/// all streams of a connection together.
const RECEIVE_WINDOW: u32 = 512 * 1024;
/// How many bytes of an answer are buffered for each HTTP/2 stream, in addition to the piece that
/// is being sent.
const SEND_BUFFER: usize = 64 * 1024;
/// How often a connection that waits for a permit makes the listener look for an idle one to close.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(100);
/// The largest unread body after which a connection is kept open, in bytes.
const SMALL_BODY_BYTES: u64 = 64 * 1024;
/// The longest total time that a client may take to read a large answer. Otherwise a client that
/// reads a byte now and then, or only sends pings, would occupy the answer's memory for hours.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
/// The most headers of a request.
const MAX_HEADERS: usize = 100;

/// The limits of connections.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// The most connections at once.
    pub max_connections: usize,
    /// The largest head of a request, in bytes.
    pub max_head_bytes: usize,
    /// How long a request's head or a TLS handshake may take to arrive.
    pub head_timeout: Duration,
    /// How long a connection may be without progress, in either direction.
    pub idle_timeout: Duration,
    /// How long a piece of an answer may take to be sent. An answer that is not streamed is one
    /// piece. Pieces that fit into the connection's own buffers are not timed.
    pub answer_timeout: Duration,
}

/// Counts a connection in a gauge until it is dropped.
struct Counted(Gauge);

impl Counted {
    fn begin(open: Gauge) -> Self {
        open.inc();
        Self(open)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The most connections that wait to be accepted; the system may permit fewer. A short queue would
/// be full as soon as one client opened a thousand connections. The next client would then connect
/// a second later, when it retransmits its first packet.
const BACKLOG: u32 = 4_096;

/// Listens at an address.
///
/// # Errors
/// Returns the system's error, such as that the address is in use.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Lets a restart bind while the system still remembers earlier connections (TIME_WAIT). On
    // other systems, the option lets other processes take the address.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves connections until `stop` ends; `open` counts them. Then no new connections are accepted,
/// and everything in progress is finished: connections in the queue, requests, and idle
/// connections. After `grace`, the remaining connections are cut off.
pub async fn serve<E>(
    listener: TcpListener,
    endpoint: E,
    limits: ConnectionLimits,
    certificate: Option<Certificate>,
    open: Gauge,
    stop: impl Future<Output = ()>,
    grace: Duration,
) where
    E: Endpoint<Output = Response> + 'static,
{
    let permits = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
    let (tell, told) = watch::channel(None);
    let mut connections = Connections {
        endpoint: Arc::new(endpoint),
        server: Arc::new(server(&limits)),
        local: listener.local_addr().ok(),
        limits,
        certificate,
        open,
        stopping: told,
        crowd: Arc::default(),
        tasks: JoinSet::new(),
        is_refused: false,
    };
    let crowd = Arc::clone(&connections.crowd);
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            // Removes tasks that have ended from the set.
            Some(_) = connections.tasks.join_next() => {}
            accepted = accept(&listener, &permits, &crowd) => connections.begin(accepted).await,
        }
    }
    let deadline = Instant::now() + grace;
    let mut closing = Some(Closing::begin(listener, grace));
    let linger = LINGER.min(grace / 4);
    tell.send_replace(Some(Stopping { since: Instant::now(), linger }));
    while closing.is_some() || !connections.tasks.is_empty() {
        let waiting = async {
            match &closing {
                Some(closing) => closing.next(&permits).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => {
                let cut_off = connections.tasks.len();
                tracing::warn!(cut_off, "connections took longer than the time to stop");
                // Dropping `connections` aborts the remaining tasks.
                break;
            }
            Some(_) = connections.tasks.join_next() => {}
            accepted = waiting => match accepted {
                Some(accepted) => connections.begin(accepted).await,
                None => closing = None,
            },
        }
    }
}

/// The stop of the service.
#[derive(Debug, Clone, Copy)]
struct Stopping {
    since: Instant,
    /// How long a connection may wait for its next request after that.
    linger: Duration,
}

/// Waits until the service stops.
async fn told(stopping: &mut watch::Receiver<Option<Stopping>>) {
    // If the sender is gone, no stop will ever be reported.
    if stopping.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A connection that was accepted, its peer's address, and its permit.
type Accepted = (TcpStream, SocketAddr, OwnedSemaphorePermit);

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    crowd: &Crowd,
) -> io::Result<Accepted> {
    // At the limit, new connections wait in the system's queue until an idle one is closed.
    let permit = loop {
        let permit = Arc::clone(permits).acquire_owned();
        match tokio::time::timeout(LOOK_FOR_ROOM, permit).await {
            Ok(permit) => break permit.map_err(io::Error::other)?,
            Err(_) => crowd.make_room(),
        }
    };
    let (stream, peer) = listener.accept().await?;
    Ok((prepared(stream), peer, permit))
}

/// Disables Nagle's algorithm: answers are written whole, so waiting for more bytes only delays
/// them.
fn prepared(stream: TcpStream) -> TcpStream {
    // If the connection is already closed, the next read reports it.
    let _set = stream.set_nodelay(true).is_ok();
    stream
}

/// The connections of a listener. Dropping it cuts off the open ones.
struct Connections<E> {
    endpoint: Arc<E>,
    server: Arc<auto::Builder<TokioExecutor>>,
    local: Option<SocketAddr>,
    limits: ConnectionLimits,
    certificate: Option<Certificate>,
    open: Gauge,
    stopping: watch::Receiver<Option<Stopping>>,
    crowd: Arc<Crowd>,
    tasks: JoinSet<()>,
    /// Whether the system refused the last connection. A series of refusals is logged only once.
    is_refused: bool,
}

impl<E: Endpoint<Output = Response> + 'static> Connections<E> {
    /// Begins to serve a connection. If the system refused it, waits for [`PAUSE`].
    async fn begin(&mut self, accepted: io::Result<Accepted>) {
        let (stream, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            // The client closed its own connection.
            Err(error) if is_of_one(&error) => return,
            Err(error) => {
                if !self.is_refused {
                    tracing::warn!(%error, "no connection can be accepted");
                }
                self.is_refused = true;
                return tokio::time::sleep(PAUSE).await;
            }
        };
        self.is_refused = false;
        let connection = Connection {
            endpoint: Arc::clone(&self.endpoint),
            server: Arc::clone(&self.server),
            limits: self.limits.clone(),
            stopping: self.stopping.clone(),
            peer,
            local: self.local,
        };
        let certificate = self.certificate.clone();
        let open = Counted::begin(self.open.clone());
        let entered = self.crowd.enter();
        self.tasks.spawn(async move {
            let member = &entered.member;
            tokio::select! {
                () = connection.run(stream, certificate, member) => {}
                () = member.sent_away() => {
                    tracing::debug!(%peer, "an idle connection was closed to accept another");
                }
            }
            drop((permit, open, entered));
        });
    }
}

fn is_of_one(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

fn server(limits: &ConnectionLimits) -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        // `idle` has its own timeout of heads.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_buf_size(limits.max_head_bytes);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(RECEIVE_WINDOW)
        .initial_connection_window_size(RECEIVE_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(limits.max_head_bytes).unwrap_or(u32::MAX));
    server
}

struct Connection<E> {
    endpoint: Arc<E>,
    server: Arc<auto::Builder<TokioExecutor>>,
    limits: ConnectionLimits,
    stopping: watch::Receiver<Option<Stopping>>,
    peer: SocketAddr,
    local: Option<SocketAddr>,
}

impl<E: Endpoint<Output = Response> + 'static> Connection<E> {
    async fn run(self, stream: TcpStream, certificate: Option<Certificate>, member: &Member) {
        let Some(certificate) = certificate else {
            return self.serve(stream, Scheme::HTTP, member).await;
        };
        member.requests.set_head_begun(true);
        let handshake = certificate.acceptor().accept(stream);
        match tokio::time::timeout(self.limits.head_timeout, handshake).await {
            Ok(Ok(stream)) => {
                member.requests.set_head_begun(false);
                self.serve(stream, Scheme::HTTPS, member).await;
            }
            Ok(Err(error)) => {
                tracing::debug!(peer = %self.peer, %error, "the TLS handshake failed")
            }
            Err(_) => tracing::debug!(peer = %self.peer, "the TLS handshake took too long"),
        }
    }

    async fn serve<S>(self, stream: S, scheme: Scheme, member: &Member)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { endpoint, server, limits, mut stopping, peer, local } = self;
        let local = LocalAddr(local.map_or_else(|| Addr::custom("unknown", ""), Addr::from));
        let requests = Arc::clone(&member.requests);
        let asked = Arc::clone(&requests);
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let under_way = asked.begin(request.version() >= Version::HTTP_2);
            let endpoint = Arc::clone(&endpoint);
            let remote = RemoteAddr(Addr::from(peer));
            let is_http_1 = request.version() < Version::HTTP_2;
            let (has_body, hint) = (!request.body().is_end_stream(), request.body().size_hint());
            let is_small = hint.upper().is_some_and(|length| length <= SMALL_BODY_BYTES);
            let mut request = Request::from((request, local.clone(), remote, scheme.clone()));
            if has_body {
                let body: BoxBody<Bytes, io::Error> = request.take_body().into();
                request.set_body(poem::Body::from(BoxBody::new(asked.body(body))));
            }
            let asked = Arc::clone(&asked);
            async move {
                let mut response = hyper::Response::from(endpoint.get_response(request).await);
                // The rest of a large body is discarded by closing the connection.
                if is_http_1 && !is_small && asked.has_unread_body() {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                // The request is in progress until the last byte of its answer is sent.
                Ok::<_, Infallible>(response.map(|body| under_way.with(body)))
            }
        });
        let stream = Bounded::new(stream, Arc::clone(&requests), limits, stopping.clone());
        let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
        let mut connection = std::pin::pin!(connection);
        let (mut is_told, mut is_ending) = (false, false);
        let ended = loop {
            tokio::select! {
                ended = &mut connection => break ended,
                // Polls the connection once more, so that its stream starts the timer of its
                // farewell.
                () = told(&mut stopping), if !is_told => is_told = true,
                // HTTP/2 can announce the last request that will be answered, so requests that were
                // already sent are not lost. HTTP/1 cannot: a graceful shutdown could end the
                // connection just as a request arrives.
                () = requests.are_of_http2(), if is_told && !is_ending => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection ended with an error");
        }
    }
}
