//! Whole lists of rules as CSV or NDJSON: read in steps within one snapshot, and sent as they are
//! read, so that memory does not grow with the list.

use std::sync::Arc;
use std::time::Duration;

use fireflow_domain::error::{BoxError, Error, ErrorChain};
use fireflow_domain::store::{ReadKind, ReadUnit};
use fireflow_domain::usecase::export::Export;
use poem::web::Accept;
use poem::{Body, FromRequest, Request, RequestBody};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::app::Context;
use crate::dto::lines::{LineFormat, RuleLines};
use crate::pieces::{self, Pieces};
use crate::problem::{Code, Problem};
use crate::telemetry::request;

/// How long all of it may take. Meanwhile a connection of the pool is held.
const MAX_DURATION: Duration = Duration::from_secs(600);
/// How many pieces may wait to be sent.
const AHEAD: usize = 2;

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
    permit: OwnedSemaphorePermit,
}

impl Begun {
    /// Takes a snapshot. Exports hold a connection as long as their clients take, so that they may
    /// have only some of them.
    ///
    /// # Errors
    /// 503 where too many run.
    pub(crate) async fn new(context: &Context, kind: ReadKind) -> Result<Self, Problem> {
        let Ok(permit) = Arc::clone(&context.app.exports).try_acquire_owned() else {
            let detail = "too many lists are being exported; try again, or read pages";
            return Err(Problem::unavailable(Code::Unavailable, detail, 5));
        };
        let uow = context.app.storage.read(kind, &context.terms()).await.map_err(Error::from)?;
        Ok(Self { context: context.clone(), uow, permit })
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
        let rules = export.next(&mut *self.uow, &self.context.caller).await?;
        let first = lines.write(&rules).map_err(Problem::internal)?;
        let (pieces, body) = pieces::body(AHEAD);
        request::spawn(async move {
            let subject = self.context.caller.actor.subject.clone();
            let all = timeout(MAX_DURATION, self.run(export, lines, first, pieces));
            let cause = match all.await {
                Ok(Ok(())) => return,
                Ok(Err(cause)) => ErrorChain(&*cause).to_string(),
                Err(elapsed) => elapsed.to_string(),
            };
            tracing::warn!(%subject, %cause, "an export was cut off");
        });
        Ok(body)
    }

    async fn run(
        mut self,
        mut export: Export,
        mut lines: RuleLines,
        first: Vec<u8>,
        pieces: Pieces,
    ) -> Result<(), BoxError> {
        let mut text = first;
        loop {
            pieces.send(text).await?;
            let rules = export.next(&mut *self.uow, &self.context.caller).await?;
            if rules.is_empty() {
                break;
            }
            text = lines.write(&rules)?;
        }
        self.uow.end().await?;
        drop(self.permit);
        pieces.end().await
    }
}
