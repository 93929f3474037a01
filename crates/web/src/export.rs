//! Whole lists of rules as CSV or NDJSON. They are read in steps within one snapshot and sent as
//! they are read, so memory does not grow with the list.

use std::time::Duration;

use fireflow_domain::error::{BoxError, ErrorChain};
use fireflow_domain::store::{ReadKind, ReadUnit};
use fireflow_domain::usecase::export::{Export, STEP};
use fireflow_formats::rule_export::{LineFormat, RuleLines};
use fireflow_service::budget::{Reservation, Use};
use fireflow_telemetry::request;
use poem::web::Accept;
use poem::{Body, FromRequest, Request, RequestBody};
use tokio::time::timeout;

use crate::app::Context;
use crate::pieces::{self, Pieces};
use crate::problem::Problem;

/// The timeout of a whole export, which holds a connection of the pool for that time.
const MAX_DURATION: Duration = Duration::from_secs(600);
/// How many pieces may wait to be sent.
const AHEAD: usize = 2;
/// How many rules the first step reads, while their size is unknown.
const FIRST_STEP: u32 = 250;
/// The intended length of a step's text, in bytes. Rules can be so large that 500 of them take 100
/// MB.
const STEP_BYTES: usize = 512 * 1024;
/// The memory of an export: a step of rules, its text, and the texts that wait to be sent.
const EXPORT_BYTES: u64 = 4 * 1024 * 1024;
/// How much memory an export takes per byte of a step's text: for the rules, and for all texts that
/// exist at once.
const STEP_FACTOR: u64 = 6;

/// The requested format of a list: lines, or `None` for a page in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted(pub Option<LineFormat>);

impl<'a> FromRequest<'a> for Accepted {
    /// Selects the available format that the client prefers. If the client accepts none of them,
    /// the format is JSON; RFC 9110, section 12.5.1, leaves this to the server.
    async fn from_request(request: &'a Request, body: &mut RequestBody) -> poem::Result<Self> {
        let best = preferred(request, body, |name| match name {
            "application/json" | "application/*" | "*/*" => Some(None),
            "text/csv" | "text/*" => Some(Some(LineFormat::Csv)),
            "application/x-ndjson" | "application/ndjson" => Some(Some(LineFormat::Ndjson)),
            _ => None,
        });
        Ok(Self(best.await?.flatten()))
    }
}

/// The format that the client prefers, of those that `format` knows by the name of their media type;
/// none if the client accepts none of them.
///
/// # Errors
/// Returns an error if the header `Accept` cannot be read.
pub async fn preferred<T>(
    request: &Request,
    body: &mut RequestBody,
    format: impl Fn(&str) -> Option<T>,
) -> poem::Result<Option<T>> {
    let Accept(types) = Accept::from_request(request, body).await?;
    Ok(types
        .iter()
        .filter(|it| it.get_param("q").is_none_or(|q| q.as_str().parse() != Ok(0.0_f32)))
        .find_map(|it| format(it.essence_str())))
}

/// An export with its snapshot, before the first read.
pub(crate) struct Begun {
    context: Context,
    /// The snapshot.
    pub(crate) uow: Box<dyn ReadUnit>,
    memory: Reservation,
}

impl Begun {
    /// Takes a snapshot. An export holds a connection for as long as its client reads, so the
    /// storage reserves only some of its connections for exports, and one subject gets half of
    /// these.
    ///
    /// # Errors
    /// Returns 503 with `Retry-After` if there is no connection or no memory for it in time.
    pub(crate) async fn new(context: &Context, kind: ReadKind) -> Result<Self, Problem> {
        // The connection comes first: any number of exports may wait for one, and they must not
        // hold memory while they wait.
        let uow = context.begin_read(kind).await?;
        let (budget, subject) = (&context.backend.budget, &context.caller.actor.subject);
        let memory = budget.reserve(subject, Use::Export, EXPORT_BYTES).await?;
        Ok(Self { context: context.clone(), uow, memory })
    }

    /// Borrows memory for a step with this text, and returns how many rules the next step reads.
    async fn next_step(&mut self, rules: usize, text: usize) -> Result<u32, Problem> {
        let bytes = u64::try_from(text).unwrap_or(u64::MAX).saturating_mul(STEP_FACTOR);
        self.memory.grow_to(bytes.max(EXPORT_BYTES)).await?;
        let next = STEP_BYTES.saturating_mul(rules) / text.max(1);
        Ok(u32::try_from(next).unwrap_or(STEP).clamp(1, STEP))
    }

    /// Reads the first step, and sends it and all others. A later failure closes the connection
    /// before the end of the body, so that no client takes a part for the whole.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub(crate) async fn send(
        mut self,
        mut export: Export,
        mut lines: RuleLines,
    ) -> Result<Body, Problem> {
        let rules = export.next(&mut *self.uow, &self.context.caller, FIRST_STEP).await?;
        let first = lines.write(&rules).map_err(Problem::internal)?;
        let step = self.next_step(rules.len(), first.len()).await?;
        let (pieces, body) = pieces::body(AHEAD);
        request::spawn(async move {
            let subject = self.context.caller.actor.subject.clone();
            let all = timeout(MAX_DURATION, self.run(export, lines, (first, step), pieces));
            let cause = match all.await {
                Ok(Ok(())) => return,
                Ok(Err(cause)) => ErrorChain(&*cause).to_string(),
                Err(elapsed) => elapsed.to_string(),
            };
            tracing::warn!(%subject, %cause, "an export was interrupted");
        });
        Ok(body)
    }

    async fn run(
        mut self,
        mut export: Export,
        mut lines: RuleLines,
        first: (Vec<u8>, u32),
        pieces: Pieces,
    ) -> Result<(), BoxError> {
        let (mut text, mut step) = first;
        loop {
            pieces.send(text).await?;
            // The statement is abandoned when the client disconnects.
            let rules = tokio::select! {
                rules = export.next(&mut *self.uow, &self.context.caller, step) => rules?,
                () = pieces.gone() => return Err("the client has disconnected".into()),
            };
            if rules.is_empty() {
                break;
            }
            text = lines.write(&rules)?;
            step = self.next_step(rules.len(), text.len()).await?;
        }
        self.uow.end().await?;
        pieces.end().await
    }
}
