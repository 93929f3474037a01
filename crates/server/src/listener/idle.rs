//! A stream with timeouts. It fails after a time without progress, such as an answer that nobody
//! reads or a connection that is only held open. It also fails if the head of a request or a large
//! answer is not complete in time, even if single bytes keep trickling.
//!
//! hyper's own timeout of a head does not fit. It also runs while a connection waits for its next
//! request, which would end the connections that proxies keep open. And it does not run before the
//! version of HTTP is known.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Sleep, sleep};

use super::linger::linger;
use super::unsent::Unsent;
use super::{ConnectionLimits, Stopping};

/// The first bytes of an HTTP/2 connection (RFC 9113, section 3.4). No HTTP/1 request begins so.
const HTTP2: &[u8] = b"PRI * HTTP/2";

/// The state of the requests on a stream. The HTTP service updates it, and the stream reads it.
#[derive(Debug)]
pub(super) struct Requests {
    /// The instant that times are relative to.
    start: Instant,
    /// When the last request ended, in milliseconds.
    ended_ms: AtomicU64,
    /// Whether a part of a head, or of a handshake, has come, but not all of it.
    is_head_begun: AtomicBool,
    /// Whether the last request was answered before all of its body had come.
    has_unread_body: AtomicBool,
    /// How many requests have come, counted when their heads are complete.
    begun: AtomicUsize,
    under_way: AtomicUsize,
    /// The pieces of answers that are being sent.
    unsent: Unsent,
    /// Whether requests come concurrently, in frames. An incomplete head cannot be detected then.
    is_multiplexed: AtomicBool,
    /// Whether the stream speaks HTTP/2; known before the first request.
    is_http2: AtomicBool,
    /// Notified when `is_http2` becomes true. The notification is kept until somebody waits for it.
    became_http2: Notify,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            ended_ms: AtomicU64::new(0),
            is_head_begun: AtomicBool::new(false),
            has_unread_body: AtomicBool::new(false),
            begun: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            unsent: Unsent::default(),
            is_multiplexed: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
            became_http2: Notify::new(),
        }
    }
}

impl Requests {
    /// Records that a head or a handshake has begun, or is complete.
    pub(super) fn set_head_begun(&self, is_begun: bool) {
        self.is_head_begun.store(is_begun, Ordering::Relaxed);
    }

    /// Since when the stream has had no request, not even an incomplete one; none if it has one
    /// now.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.under_way.load(Ordering::Relaxed) == 0
            && !self.is_head_begun.load(Ordering::Relaxed);
        let since = Duration::from_millis(self.ended_ms.load(Ordering::Relaxed));
        is_idle.then(|| self.start + since)
    }

    /// Whether the last request was answered before all of its body had come.
    pub(super) fn has_unread_body(&self) -> bool {
        self.has_unread_body.load(Ordering::Relaxed)
    }

    /// The pieces of answers that are being sent.
    pub(super) const fn unsent(&self) -> &Unsent {
        &self.unsent
    }

    /// Wraps the body of a request, to record if it is not read to its end.
    pub(super) fn body<B: Body>(self: &Arc<Self>, body: B) -> Received<B> {
        Received { body, has_ended: false, requests: Arc::clone(self) }
    }

    /// Records that a request's head is complete. The request is in progress until the guard is
    /// dropped.
    pub(super) fn begin(self: &Arc<Self>, is_multiplexed: bool) -> UnderWay {
        if is_multiplexed {
            self.is_multiplexed.store(true, Ordering::Relaxed);
            self.note_http2();
        }
        self.set_head_begun(false);
        self.has_unread_body.store(false, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    fn note_http2(&self) {
        if !self.is_http2.swap(true, Ordering::Relaxed) {
            self.became_http2.notify_one();
        }
    }

    /// Waits until the stream is known to speak HTTP/2. Only one task may wait, and only once.
    pub(super) async fn are_of_http2(&self) {
        self.became_http2.notified().await;
    }
}

/// A request that is being answered.
pub(super) struct UnderWay(Arc<Requests>);

impl UnderWay {
    /// The state of the connection's requests.
    pub(super) fn requests(&self) -> &Requests {
        &self.0
    }

    /// Wraps the body of the answer. The request is in progress until its last byte is sent.
    pub(super) fn with<B>(self, body: B) -> Answer<B> {
        Answer { body, under_way: Arc::new(self) }
    }
}

/// The body of an answer.
pub(super) struct Answer<B> {
    body: B,
    under_way: Arc<UnderWay>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let under_way = &self.under_way;
        let noted = |frame: Frame<Bytes>| {
            frame.map_data(|bytes| under_way.requests().unsent.piece(bytes, Arc::clone(under_way)))
        };
        polled.map(|frame| frame.map(|frame| frame.map(noted)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request.
pub(super) struct Received<B: Body> {
    body: B,
    has_ended: bool,
    requests: Arc<Requests>,
}

impl<B: Body + Unpin> Body for Received<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.has_ended |= matches!(polled, Poll::Ready(None));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body> Drop for Received<B> {
    fn drop(&mut self) {
        // A chunked body only knows that it has ended after another poll.
        if !self.has_ended && !self.body.is_end_stream() {
            self.requests.has_unread_body.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let ended = u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.ended_ms.store(ended, Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) struct Bounded<S: Stream> {
    /// None only during the drop.
    stream: Option<S>,
    requests: Arc<Requests>,
    limits: ConnectionLimits,
    /// The time of the last progress.
    progress_at: Instant,
    /// When the first byte of a head came, and how many requests had come before it. For the first
    /// head, this is when the connection was accepted. The head is complete when one more request
    /// has come.
    head_since: Option<(Instant, usize)>,
    /// Whether something was written since then.
    has_written: bool,
    /// Whether any byte has come.
    has_heard: bool,
    /// Set when the service stops.
    stopping: watch::Receiver<Option<Stopping>>,
    /// The timer of the next deadline. It is reset only if it would ring too late or rang too
    /// early, because a reset costs more than recording the time.
    alarm: Pin<Box<Sleep>>,
}

/// A connection, with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

impl<S: Stream> Drop for Bounded<S> {
    /// Lingers if an answer was sent before its request was complete. Otherwise the answer would
    /// not reach a client that is still sending.
    fn drop(&mut self) {
        let is_head_refused = self.has_written && self.is_head_under_way();
        if (is_head_refused || self.requests.has_unread_body())
            && let Some(stream) = self.stream.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(linger(stream));
        }
    }
}

impl<S: Stream> Bounded<S> {
    pub(super) fn new(
        stream: S,
        requests: Arc<Requests>,
        limits: ConnectionLimits,
        stopping: watch::Receiver<Option<Stopping>>,
    ) -> Self {
        let now = Instant::now();
        let first = limits.idle_timeout.min(limits.head_timeout);
        Self {
            stream: Some(stream),
            requests,
            has_written: false,
            limits,
            progress_at: now,
            head_since: Some((now, 0)),
            has_heard: false,
            stopping,
            alarm: Box::pin(sleep(first)),
        }
    }

    /// Records that bytes came. They begin a head, unless they belong to a request in progress.
    fn note_read(&mut self, bytes: &[u8], now: Instant) {
        let begun = self.requests.begun.load(Ordering::Relaxed);
        if !std::mem::replace(&mut self.has_heard, true) && bytes.starts_with(HTTP2) {
            self.requests.note_http2();
        }
        let is_more_of_it = self.head_since.is_some_and(|(_, before)| before == begun);
        if self.requests.under_way.load(Ordering::Relaxed) == 0 {
            self.requests.set_head_begun(!self.requests.is_multiplexed.load(Ordering::Relaxed));
            if !is_more_of_it {
                self.head_since = Some((now, begun));
                self.has_written = false;
            }
        }
    }

    /// When the stream ends because the service stops and the stream is idle. None if it is in use,
    /// or if it speaks HTTP/2, which has its own shutdown.
    fn farewell(&self) -> Option<Instant> {
        let Stopping { since, linger } = (*self.stopping.borrow())?;
        let is_in_use = self.requests.under_way.load(Ordering::Relaxed) > 0
            || self.requests.is_http2.load(Ordering::Relaxed)
            || self.requests.is_head_begun.load(Ordering::Relaxed);
        if is_in_use { None } else { Some(since.max(self.progress_at) + linger) }
    }

    /// Whether a head has begun that is not complete.
    fn is_head_under_way(&self) -> bool {
        self.head_since
            .is_some_and(|(_, before)| self.requests.begun.load(Ordering::Relaxed) == before)
            && !self.requests.is_multiplexed.load(Ordering::Relaxed)
    }

    /// The stream. Returns `NotConnected` if it is gone.
    fn stream(&mut self) -> io::Result<Pin<&mut S>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// When the stream fails, unless there is progress.
    fn deadline(&self) -> Instant {
        let idle = self.progress_at + self.limits.idle_timeout;
        let end = match self.head_since {
            Some((since, _)) if self.is_head_under_way() => {
                idle.min(since + self.limits.head_timeout)
            }
            _ => idle,
        };
        // One unread answer ends the whole connection, even over HTTP/2 with its many streams:
        // nothing else can end a single stream.
        match self.requests.unsent.since() {
            Some(since) => end.min(since + self.limits.answer_timeout),
            None => end,
        }
    }

    /// Records progress. Returns `TimedOut` if the deadline has passed.
    fn bound<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            let now = Instant::now();
            // HTTP/2 pings between requests do not count: they would keep a connection open
            // forever.
            if self.requests.under_way.load(Ordering::Relaxed) > 0
                || !self.requests.is_multiplexed.load(Ordering::Relaxed)
            {
                self.progress_at = now;
            }
            if self.deadline() <= now {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            return polled;
        }
        let ring_at = self.ring_at();
        if self.alarm.deadline() > ring_at {
            self.alarm.as_mut().reset(ring_at);
        }
        while self.alarm.as_mut().poll(context).is_ready() {
            if self.deadline() <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            let ring_at = self.ring_at();
            self.alarm.as_mut().reset(ring_at);
        }
        Poll::Pending
    }

    /// When the timer must ring next, unless there is progress.
    fn ring_at(&self) -> Instant {
        let deadline = self.deadline();
        // A farewell that is due needs no timer: the next read checks it.
        let farewell = self.farewell().filter(|at| *at > Instant::now());
        farewell.map_or(deadline, |at| at.min(deadline))
    }
}

impl<S: Stream> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = self.stream()?.poll_read(context, buffer);
        if let Some(bytes @ [_, ..]) = buffer.filled().get(before..) {
            self.note_read(bytes, Instant::now());
        }
        let bounded = self.bound(polled, context);
        // Reads as the end of the stream, as if the client had closed it.
        if bounded.is_pending() && self.farewell().is_some_and(|at| at <= Instant::now()) {
            return Poll::Ready(Ok(()));
        }
        bounded
    }
}

impl<S: Stream> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = self.stream()?.poll_write(context, bytes);
        self.has_written |= polled.is_ready();
        self.bound(polled, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A flush of TLS may write, so it can block. A flush that is ready is no progress.
        match self.stream()?.poll_flush(context) {
            Poll::Pending => self.bound(Poll::Pending, context),
            ready => ready,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.stream()?.poll_shutdown(context);
        self.bound(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.stream()?.poll_write_vectored(context, bytes);
        self.has_written |= polled.is_ready();
        self.bound(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}
