//! A stream that fails when it has made no progress for a while (an answer that nobody reads, a
//! connection that is only held open), or when the head of a request does not come to its end in
//! time, however busily it trickles.
//!
//! hyper's own limit of a head also runs while a connection waits for its next request, which would
//! end the connections that proxies keep; and it does not run before the version of HTTP is known.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Sleep, sleep};

use super::Stopping;

/// How a connection of HTTP/2 begins (RFC 9113, section 3.4), and no request of HTTP/1 does.
const HTTP2: &[u8] = b"PRI * HTTP/2";

/// What a stream is told of the requests that come over it.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// How many have come: their heads are there.
    begun: AtomicUsize,
    under_way: AtomicUsize,
    /// Many at once come over it, in frames: what of a head is still missing cannot be seen here.
    is_multiplexed: AtomicBool,
    /// It speaks HTTP/2, whether a request has come or not.
    is_http2: AtomicBool,
    /// Holds word of that until it is asked for.
    became_http2: Notify,
}

impl Requests {
    /// Notes that a request's head is there; its answer is under way until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>, is_multiplexed: bool) -> UnderWay {
        if is_multiplexed {
            self.is_multiplexed.store(true, Ordering::Relaxed);
            self.note_http2();
        }
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
    /// The body of the answer, until whose end the request is under way.
    pub(super) const fn with<B>(self, body: B) -> Answer<B> {
        Answer { body, _under_way: self }
    }
}

/// The body of an answer.
pub(super) struct Answer<B> {
    body: B,
    _under_way: UnderWay,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) struct Bounded<S> {
    stream: S,
    requests: Arc<Requests>,
    idle_limit: Duration,
    head_limit: Duration,
    /// When the last progress was.
    progress_at: Instant,
    /// When the first byte of a head came, and how many requests had come before it; at the
    /// beginning, when the connection did. It is there when one more has come.
    head_since: Option<(Instant, usize)>,
    /// How many requests had come when bytes came that belong to none of them: a head is on its way
    /// until one more has.
    heard_of: Option<usize>,
    /// That the service stops.
    stopping: watch::Receiver<Option<Stopping>>,
    /// Set anew only where it would ring too late, or rang too early: resetting a timer costs more
    /// than noting the time.
    alarm: Pin<Box<Sleep>>,
}

impl<S> Bounded<S> {
    pub(super) fn new(
        stream: S,
        requests: Arc<Requests>,
        idle_limit: Duration,
        head_limit: Duration,
        stopping: watch::Receiver<Option<Stopping>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            stream,
            requests,
            idle_limit,
            head_limit,
            progress_at: now,
            head_since: Some((now, 0)),
            heard_of: None,
            stopping,
            alarm: Box::pin(sleep(idle_limit.min(head_limit))),
        }
    }

    /// Notes that bytes came: they begin a head, unless they belong to what is under way.
    fn note_read(&mut self, bytes: &[u8], now: Instant) {
        let begun = self.requests.begun.load(Ordering::Relaxed);
        if self.heard_of.is_none() && bytes.starts_with(HTTP2) {
            self.requests.note_http2();
        }
        let is_more_of_it = self.head_since.is_some_and(|(_, before)| before == begun);
        if self.requests.under_way.load(Ordering::Relaxed) == 0 {
            self.heard_of = Some(begun);
            if !is_more_of_it {
                self.head_since = Some((now, begun));
            }
        }
    }

    /// When it ends because the service stops and nothing comes over it: none while something does, or
    /// where its protocol has an end of its own.
    fn farewell(&self) -> Option<Instant> {
        let Stopping { since, linger } = (*self.stopping.borrow())?;
        let is_in_use = self.requests.under_way.load(Ordering::Relaxed) > 0
            || self.requests.is_http2.load(Ordering::Relaxed)
            || self.heard_of == Some(self.requests.begun.load(Ordering::Relaxed));
        if is_in_use { None } else { Some(since.max(self.progress_at) + linger) }
    }

    /// When it fails, unless there is progress.
    fn deadline(&self) -> Instant {
        let idle = self.progress_at + self.idle_limit;
        match self.head_since {
            Some((since, before))
                if self.requests.begun.load(Ordering::Relaxed) == before
                    && !self.requests.is_multiplexed.load(Ordering::Relaxed) =>
            {
                idle.min(since + self.head_limit)
            }
            _ => idle,
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

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bound(polled, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Of TLS it may have to write.
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending => self.bound(Poll::Pending, context),
            ready => ready,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bound(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.bound(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
