//! Connections: accepted up to a number, bounded in time and size, with TLS where it ends here, and
//! brought to their end when the service stops.
//!
//! The framework's own server has no limit of a request's head, neither in time nor in size, none of
//! connections, and asks for the next connection at once when the system has no more of them (see
//! ADR 15).

mod crowd;
mod idle;
mod linger;
mod tls;

pub use tls::{Certificate, TlsError};

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
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use poem::http::uri::Scheme;
use poem::http::{HeaderValue, Version, header};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Endpoint, Request, Response};
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crowd::{Crowd, Member};
use idle::Bounded;

/// How long nothing is accepted after the system refused a connection: it has no more of them.
const PAUSE: Duration = Duration::from_millis(50);
/// The most requests at once on one connection of HTTP/2.
const MAX_STREAMS: u32 = 128;
/// How many bytes of bodies a client of HTTP/2 may send before they are read: on each stream, and on
/// all streams of a connection together.
const RECEIVE_WINDOW: u32 = 512 * 1024;
/// How many bytes of an answer are kept for each stream of HTTP/2 until they are sent, beside the
/// piece that is being sent.
const SEND_BUFFER: usize = 64 * 1024;
/// How often it is looked whether a connection can give way to one that waits.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(100);
/// Up to this many bytes of a body that nobody wants, the connection may go on.
const SMALL_BODY_BYTES: u64 = 64 * 1024;
/// The most headers of a request.
const MAX_HEADERS: usize = 100;

/// What a connection may take.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// The most connections at once.
    pub max_connections: usize,
    /// The largest head of a request, in bytes.
    pub max_head_bytes: usize,
    /// How long a head may take to come, and a TLS handshake.
    pub head_timeout: Duration,
    /// How long it may be without progress, in either direction.
    pub idle_timeout: Duration,
}

/// A connection that is counted as long as it is open.
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

/// Serves connections, of which `open` says how many there are, until `stop` ends; then those under way come to their end, within `grace`.
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
    let endpoint = Arc::new(endpoint);
    let permits = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
    let local = listener.local_addr().ok();
    let server = Arc::new(server(&limits));
    let connections = GracefulShutdown::new();
    let crowd = Arc::new(Crowd::default());
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &permits, &crowd) => accepted,
        };
        let (stream, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            // One client's own matter.
            Err(error) if is_of_one(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let connection = Connection {
            endpoint: Arc::clone(&endpoint),
            server: Arc::clone(&server),
            limits: limits.clone(),
            peer,
            local,
        };
        let (certificate, watcher) = (certificate.clone(), connections.watcher());
        let open = Counted::begin(open.clone());
        let entered = crowd.enter();
        tokio::spawn(async move {
            let member = &entered.member;
            tokio::select! {
                () = connection.run(stream, certificate, watcher, member) => {}
                () = member.sent_away() => {
                    tracing::debug!(%peer, "an unused connection gave way to another");
                }
            }
            drop((permit, open, entered));
        });
    }
    // Nobody else is let in: the next one tries another process.
    drop(listener);
    if tokio::time::timeout(grace, connections.shutdown()).await.is_err() {
        tracing::warn!("requests under way were ended: they took longer than the time to stop");
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    crowd: &Crowd,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    // Those that are too many wait in the system's queue, until one gives way.
    let permit = loop {
        let permit = Arc::clone(permits).acquire_owned();
        match tokio::time::timeout(LOOK_FOR_ROOM, permit).await {
            Ok(permit) => break permit.map_err(io::Error::other)?,
            Err(_) => crowd.make_room(),
        }
    };
    let (stream, peer) = listener.accept().await?;
    // An answer is written at once: waiting for more to send only delays it. A connection that is
    // gone again already is found out about soon enough.
    let _set = stream.set_nodelay(true).is_ok();
    Ok((stream, peer, permit))
}

fn is_of_one(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

fn server(limits: &ConnectionLimits) -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        // See `idle`.
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
    peer: SocketAddr,
    local: Option<SocketAddr>,
}

impl<E: Endpoint<Output = Response> + 'static> Connection<E> {
    async fn run(
        self,
        stream: TcpStream,
        certificate: Option<Certificate>,
        watcher: Watcher,
        member: &Member,
    ) {
        let Some(certificate) = certificate else {
            return self.serve(stream, Scheme::HTTP, watcher, member).await;
        };
        member.requests.set_head_begun(true);
        let handshake = certificate.acceptor().accept(stream);
        match tokio::time::timeout(self.limits.head_timeout, handshake).await {
            Ok(Ok(stream)) => {
                member.requests.set_head_begun(false);
                self.serve(stream, Scheme::HTTPS, watcher, member).await;
            }
            Ok(Err(error)) => tracing::debug!(peer = %self.peer, %error, "no TLS handshake"),
            Err(_) => tracing::debug!(peer = %self.peer, "the TLS handshake took too long"),
        }
    }

    async fn serve<S>(self, stream: S, scheme: Scheme, watcher: Watcher, member: &Member)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { endpoint, server, limits, peer, local } = self;
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
                // What is left of a large body is thrown away, and the connection with it.
                if is_http_1 && !is_small && asked.has_unread_body() {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                // Until its last byte is handed on.
                Ok::<_, Infallible>(response.map(|body| under_way.with(body)))
            }
        });
        let stream =
            TokioIo::new(Bounded::new(stream, requests, limits.idle_timeout, limits.head_timeout));
        let connection = server.serve_connection(stream, service).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%peer, %error, "a connection came to no good end");
        }
    }
}
