//! A stream that fails when it has made no progress for a while (an answer that nobody reads, a
//! connection that is only held open), or when the head of a request does not come to its end in
//! time, or a large answer is not taken to its end, however busily they trickle.
//!
//! hyper's own limit of a head also runs while a connection waits for its next request, which would
//! end the connections that proxies keep; and it does not run before the version of HTTP is known.

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

/// How a connection of HTTP/2 begins (RFC 9113, section 3.4), and no request of HTTP/1 does.
const HTTP2: &[u8] = b"PRI * HTTP/2";

/// What a stream is told of the requests that come over it.
#[derive(Debug)]
pub(super) struct Requests {
    /// From which on times are counted.
    start: Instant,
    /// When the last request ended, in milliseconds.
    ended_ms: AtomicU64,
    /// Whether something of a head has come, or of a handshake, and not all of it.
    is_head_begun: AtomicBool,
    /// Whether the last request was answered before all of its body had come.
    has_unread_body: AtomicBool,
    /// How many have come: their heads are there.
    begun: AtomicUsize,
    under_way: AtomicUsize,
    /// The pieces of answers that are being sent.
    unsent: Unsent,
    /// Many at once come over it, in frames: what of a head is still missing cannot be seen here.
    is_multiplexed: AtomicBool,
    /// It speaks HTTP/2, whether a request has come or not.
    is_http2: AtomicBool,
    /// Holds word of that until it is asked for.
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
    /// Notes that a head, or a handshake, has begun, or is over.
    pub(super) fn set_head_begun(&self, is_begun: bool) {
        self.is_head_begun.store(is_begun, Ordering::Relaxed);
    }

    /// Since when nothing is asked, and nothing has begun to be; none if something is.
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

    /// What of the connection's answers is being sent.
    pub(super) const fn unsent(&self) -> &Unsent {
        &self.unsent
    }

    /// The body of a request, which is noted if it is not read to its end.
    pub(super) fn body<B: Body>(self: &Arc<Self>, body: B) -> Received<B> {
        Received { body, has_ended: false, requests: Arc::clone(self) }
    }

    /// Notes that a request's head is there; its answer is under way until the guard is dropped.
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

    /// Waits until the stream is known to speak HTTP/2. To be asked by one, once.
    pub(super) async fn are_of_http2(&self) {
        self.became_http2.notified().await;
    }
}

/// A request that is being answered.
pub(super) struct UnderWay(Arc<Requests>);

impl UnderWay {
    /// What is known of the connection.
    pub(super) fn requests(&self) -> &Requests {
        &self.0
    }

    /// The body of the answer, until whose last byte is sent the request is under way.
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
        // One that comes in chunks does not know its end before it was asked for more.
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
    /// There until it is dropped.
    stream: Option<S>,
    requests: Arc<Requests>,
    limits: ConnectionLimits,
    /// When the last progress was.
    progress_at: Instant,
    /// When the first byte of a head came, and how many requests had come before it; at the
    /// beginning, when the connection did. It is there when one more has come.
    head_since: Option<(Instant, usize)>,
    /// Whether something was written since then.
    has_written: bool,
    /// Whether anything has come.
    has_heard: bool,
    /// That the service stops.
    stopping: watch::Receiver<Option<Stopping>>,
    /// Set anew only where it would ring too late, or rang too early: resetting a timer costs more
    /// than noting the time.
    alarm: Pin<Box<Sleep>>,
}

/// What a connection is made of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

impl<S: Stream> Drop for Bounded<S> {
    /// What was answered before its request had come to its end must reach a client that is still
    /// sending.
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

    /// Notes that bytes came: they begin a head, unless they belong to what is under way.
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

    /// When it ends because the service stops and nothing comes over it: none while something does, or
    /// where its protocol has an end of its own.
    fn farewell(&self) -> Option<Instant> {
        let Stopping { since, linger } = (*self.stopping.borrow())?;
        let is_in_use = self.requests.under_way.load(Ordering::Relaxed) > 0
            || self.requests.is_http2.load(Ordering::Relaxed)
            || self.requests.is_head_begun.load(Ordering::Relaxed);
        if is_in_use { None } else { Some(since.max(self.progress_at) + linger) }
    }

    /// Whether a head has begun that is not there yet.
    fn is_head_under_way(&self) -> bool {
        self.head_since
            .is_some_and(|(_, before)| self.requests.begun.load(Ordering::Relaxed) == before)
            && !self.requests.is_multiplexed.load(Ordering::Relaxed)
    }

    /// The stream, as long as there is one.
    fn stream(&mut self) -> io::Result<Pin<&mut S>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// When it fails, unless there is progress.
    fn deadline(&self) -> Instant {
        let idle = self.progress_at + self.limits.idle_timeout;
        let end = match self.head_since {
            Some((since, _)) if self.is_head_under_way() => {
                idle.min(since + self.limits.head_timeout)
            }
            _ => idle,
        };
        // Over HTTP/2 one stream whose answer is not taken ends them all: nobody else can end it.
        match self.requests.unsent.since() {
            Some(since) => end.min(since + self.limits.answer_timeout),
            None => end,
        }
    }

    /// Notes progress, or fails where the time is over.
    fn bound<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            let now = Instant::now();
            // Signs of life between requests would keep a connection for ever.
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

    /// When something is to be done next, unless there is progress.
    fn ring_at(&self) -> Instant {
        let deadline = self.deadline();
        // Of a farewell that is due whoever reads takes notice.
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
        // As if the client had ended it.
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
        // Of TLS it may have to write.
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
