//! Whole lists of rules as CSV or NDJSON: read in steps within one snapshot, and sent as they are
//! read, so that memory does not grow with the list.

use std::time::Duration;

use fireflow_domain::error::{BoxError, ErrorChain};
use fireflow_domain::store::{ReadKind, ReadUnit};
use fireflow_domain::usecase::export::{Export, STEP};
use fireflow_service::budget::{Reservation, Use};
use fireflow_telemetry::request;
use poem::web::Accept;
use poem::{Body, FromRequest, Request, RequestBody};
use tokio::time::timeout;

use crate::app::Context;
use crate::dto::lines::{LineFormat, RuleLines};
use crate::pieces::{self, Pieces};
use crate::problem::Problem;

/// How long all of it may take. Meanwhile a connection of the pool is held.
const MAX_DURATION: Duration = Duration::from_secs(600);
/// How many pieces may wait to be sent.
const AHEAD: usize = 2;
/// How many rules are read at first: it is not known yet how large they are.
const FIRST_STEP: u32 = 250;
/// How long the text of a step is to be, in bytes: rules can be so large that 500 of them take 100 MB.
const STEP_BYTES: usize = 512 * 1024;
/// What an export takes: a step of rules, its text, and the texts that wait to be sent.
const EXPORT_BYTES: u64 = 4 * 1024 * 1024;
/// How much of it each byte of a step's text takes: the rules, and all texts that there are at once.
const STEP_FACTOR: u64 = 6;

/// How a list is to be answered: in lines, or where there is none, as a page in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted(pub Option<LineFormat>);

impl<'a> FromRequest<'a> for Accepted {
    /// What the client likes best of what there is; JSON where it names nothing of that (RFC 9110,
    /// section 12.5.1, leaves that to the server).
    async fn from_request(request: &'a Request, body: &mut RequestBody) -> poem::Result<Self> {
        let Accept(types) = Accept::from_request(request, body).await?;
        let best = types
            .iter()
            .filter(|it| it.get_param("q").is_none_or(|q| q.as_str().parse() != Ok(0.0_f32)))
            .find_map(|it| match it.essence_str() {
                "application/json" | "application/*" | "*/*" => Some(None),
                "text/csv" | "text/*" => Some(Some(LineFormat::Csv)),
                "application/x-ndjson" | "application/ndjson" => Some(Some(LineFormat::Ndjson)),
                _ => None,
            });
        Ok(Self(best.flatten()))
    }
}

/// An export that has its snapshot, and nothing read yet.
pub(crate) struct Begun {
    context: Context,
    /// The snapshot.
    pub(crate) uow: Box<dyn ReadUnit>,
    memory: Reservation,
}

impl Begun {
    /// Takes a snapshot. Exports hold a connection as long as their clients take, so that the storage
    /// gives them only some of its connections, and one subject half of these.
    ///
    /// # Errors
    /// Returns 503 with `Retry-After` if there is no connection or no memory for it in time.
    pub(crate) async fn new(context: &Context, kind: ReadKind) -> Result<Self, Problem> {
        // The turn comes first: any number may wait for one, and what waits must hold no memory.
        let uow = context.begin_read(kind).await?;
        let (budget, subject) = (&context.backend.budget, &context.caller.actor.subject);
        let memory = budget.reserve(subject, Use::Export, EXPORT_BYTES).await?;
        Ok(Self { context: context.clone(), uow, memory })
    }

    /// Borrows what a step of this text takes, and answers how many rules the next one is to have.
    async fn next_step(&mut self, rules: usize, text: usize) -> Result<u32, Problem> {
        let bytes = u64::try_from(text).unwrap_or(u64::MAX).saturating_mul(STEP_FACTOR);
        self.memory.grow_to(bytes.max(EXPORT_BYTES)).await?;
        let next = STEP_BYTES.saturating_mul(rules) / text.max(1);
        Ok(u32::try_from(next).unwrap_or(STEP).clamp(1, STEP))
    }

    /// Reads the first step, and sends it and what follows. What fails later ends the connection
    /// before the end of the body, so that no client takes a part for the whole.
    ///
    /// # Errors
    /// The store's.
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
            // A client that leaves does not let its statement go on.
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
