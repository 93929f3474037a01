//! The data collected about a request while it is served, for its log line, its metrics and its
//! trace.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use fireflow_service::monitor::{SpanOwner, UseCaseSpan};
use fireflow_storage::Observed;
use opentelemetry::Context;
use tokio::task::JoinHandle;
use tokio::task::futures::TaskLocalFuture;

use super::errors::Defect;
use super::routes::Route;
use super::traces::{Trace, Traces};

/// The client's address; `None` if the connection has no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub Option<IpAddr>);

impl ClientAddress {
    /// The address as text; empty if the connection has none.
    #[must_use]
    pub fn text(self) -> String {
        self.0.map(|address| address.to_string()).unwrap_or_default()
    }
}

/// The data known about a request before its token is checked, kept among its extensions, and the
/// data that inner layers add.
#[derive(Debug)]
pub struct RequestRecord {
    /// The request's id.
    pub id: String,
    /// The client's address.
    pub client: ClientAddress,
    /// Its method, one of the known names.
    pub method: &'static str,
    /// Its path as a template; `None` if the API has no such path.
    pub route: Option<Arc<Route>>,
    /// The subject of its token.
    pub subject: OnceLock<String>,
    /// Its trace.
    pub trace: Trace,
    statements: AtomicU32,
    database_us: AtomicU64,
    has_panicked: AtomicBool,
    /// The span of the use case in progress, if one is recorded.
    use_case: Mutex<Option<Context>>,
}

tokio::task_local! {
    static CURRENT: Arc<RequestRecord>;
}

/// Runs a future as part of a request.
pub fn within<F: Future>(
    request: Arc<RequestRecord>,
    future: F,
) -> TaskLocalFuture<Arc<RequestRecord>, F> {
    CURRENT.scope(request, future)
}

/// Spawns a future as a task that remains part of this task's request.
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    match current() {
        Some(request) => tokio::spawn(within(request, future)),
        None => tokio::spawn(future),
    }
}

/// Calls a function with this task's request, if the task has one.
pub fn with_current(ask: impl FnOnce(&RequestRecord)) {
    // Outside of a request, nothing is called.
    let _asked = CURRENT.try_with(|request| ask(request)).is_ok();
}

/// The request that this task is part of.
#[must_use]
pub fn current() -> Option<Arc<RequestRecord>> {
    CURRENT.try_with(Arc::clone).ok()
}

impl RequestRecord {
    /// Creates the record of a new request.
    #[must_use]
    pub fn new(
        id: String,
        client: ClientAddress,
        method: &'static str,
        route: Option<Arc<Route>>,
        trace: Trace,
    ) -> Self {
        Self {
            id,
            client,
            method,
            route,
            subject: OnceLock::new(),
            trace,
            statements: AtomicU32::new(0),
            database_us: AtomicU64::new(0),
            has_panicked: AtomicBool::new(false),
            use_case: Mutex::new(None),
        }
    }

    /// Its path as a template.
    #[must_use]
    pub fn template(&self) -> &str {
        self.shared_template()
    }

    /// The same, for storing.
    #[must_use]
    pub fn shared_template(&self) -> &Arc<str> {
        static UNMATCHED: LazyLock<Arc<str>> = LazyLock::new(|| super::routes::UNMATCHED.into());
        self.route.as_ref().map_or_else(|| &*UNMATCHED, |route| &route.template)
    }

    /// How many statements the request ran, and the time that they took, in microseconds.
    #[must_use]
    pub fn at_database(&self) -> (u32, u64) {
        (self.statements.load(Ordering::Relaxed), self.database_us.load(Ordering::Relaxed))
    }

    pub(super) fn count_statement(&self, it: &Observed<'_>) {
        if it.operation.is_statement() {
            self.statements.fetch_add(1, Ordering::Relaxed);
        }
        let elapsed = u64::try_from(it.elapsed.as_micros()).unwrap_or(u64::MAX);
        self.database_us.fetch_add(elapsed, Ordering::Relaxed);
    }

    /// Records that its code panicked, and adds the request to the defect.
    pub(super) fn panicked(&self, defect: &mut Defect) {
        self.has_panicked.store(true, Ordering::Relaxed);
        self.describe(defect);
    }

    /// Whether its code panicked: the panic is reported already.
    #[must_use]
    pub fn has_panicked(&self) -> bool {
        self.has_panicked.load(Ordering::Relaxed)
    }

    /// Adds the request to a defect.
    pub fn describe(&self, defect: &mut Defect) {
        defect.request_id = Some(self.id.clone());
        defect.trace_id = self.trace.id();
        defect.method = Some(self.method);
        defect.route = Some(self.template().to_owned());
    }

    /// The parent of the next span; `None` if nothing is recorded.
    pub(super) fn parent_span(&self) -> Option<Context> {
        let server = self.trace.recorded()?;
        let use_case = self.use_case.lock().unwrap_or_else(PoisonError::into_inner);
        Some(use_case.as_ref().unwrap_or(server).clone())
    }

    fn set_use_case(&self, span: Option<Context>) {
        *self.use_case.lock().unwrap_or_else(PoisonError::into_inner) = span;
    }
}

impl SpanOwner for RequestRecord {
    fn end_use_case(&self) {
        // The last one to hold it ends it.
        self.set_use_case(None);
    }
}

/// Begins the span of what this task's request asks for; none where nothing is recorded.
pub(super) fn begin_use_case(traces: &Traces) -> Option<UseCaseSpan> {
    let request = current()?;
    let parent = request.trace.recorded()?;
    let operation = request.route.as_ref().and_then(|route| route.operation(request.method));
    request.set_use_case(Some(traces.use_case(parent, operation.unwrap_or("use case"))));
    Some(UseCaseSpan::new(request))
}
