//! The trait that records work. The telemetry implements it, so this crate does not depend on the
//! telemetry.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

/// Records work. Each call is made in the task of the request that the work is done for.
pub trait Monitor: fmt::Debug + Send + Sync {
    /// Begins the span of the use case that this task's request runs. Returns `None` if no spans
    /// are recorded.
    fn begin_use_case(&self) -> Option<UseCaseSpan>;
    /// Makes a future a part of this task's request, whichever task it runs in.
    fn join_request(&self, work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()>;
    /// Counts a policy that was `compiled` or `updated`, or was `over_budget`.
    fn compiled(&self, took: Duration, result: &'static str);
}

/// A request that records the span of its use case.
pub trait SpanOwner: Send + Sync {
    /// Ends the span.
    fn end_use_case(&self);
}

/// The span of a use case. Dropping it ends the span.
pub struct UseCaseSpan(Arc<dyn SpanOwner>);

impl UseCaseSpan {
    /// The span that a request has begun.
    #[must_use]
    pub fn new(owner: Arc<dyn SpanOwner>) -> Self {
        Self(owner)
    }
}

impl fmt::Debug for UseCaseSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UseCaseSpan").finish_non_exhaustive()
    }
}

impl Drop for UseCaseSpan {
    fn drop(&mut self) {
        self.0.end_use_case();
    }
}

/// Records nothing. For work that belongs to no request.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMonitor;

impl Monitor for NoMonitor {
    fn begin_use_case(&self) -> Option<UseCaseSpan> {
        None
    }

    fn join_request(&self, work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        work
    }

    fn compiled(&self, _took: Duration, _result: &'static str) {}
}

/// Makes a future a part of this task's request, whichever task it runs in. The result is `None` if
/// the monitor drops the future before it ends.
pub(crate) fn join_request<T: Send + 'static>(
    monitor: &dyn Monitor,
    future: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = Option<T>> + Send + 'static {
    let (done, mut outcome) = oneshot::channel();
    let work = monitor.join_request(Box::pin(async move {
        // The receiver lives as long as this future.
        let _sent = done.send(future.await).is_ok();
    }));
    async move {
        work.await;
        outcome.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Spans(AtomicUsize);

    impl SpanOwner for Spans {
        fn end_use_case(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_span_ends_when_it_is_dropped() {
        let spans = Arc::new(Spans::default());
        let span = UseCaseSpan::new(Arc::<Spans>::clone(&spans));
        assert_eq!(spans.0.load(Ordering::Relaxed), 0);
        drop(span);
        assert_eq!(spans.0.load(Ordering::Relaxed), 1);
    }

    /// A monitor that drops futures instead of running them.
    #[derive(Debug)]
    struct Loses;

    impl Monitor for Loses {
        fn begin_use_case(&self) -> Option<UseCaseSpan> {
            None
        }

        fn join_request(&self, work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
            drop(work);
            Box::pin(async {})
        }

        fn compiled(&self, _took: Duration, _result: &'static str) {}
    }

    #[tokio::test]
    async fn what_is_joined_answers_what_it_found() {
        assert_eq!(join_request(&NoMonitor, async { 7 }).await, Some(7));
        assert_eq!(join_request(&Loses, async { 7 }).await, None);
    }
}
