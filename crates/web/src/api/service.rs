//! The service itself: the caller's identity, health and metrics.

use fireflow_auth::KeyFileStatus;
use fireflow_domain::actor::Role;
use poem::http::HeaderMap;
use poem_openapi::OpenApi;
use schemars::JsonSchema;
use serde::Serialize;

use super::Tag;
use crate::app::App;
use crate::auth::{Anyone, As, HealthCheck};
use crate::operation::{Access, Operation};
use crate::params::QueryString;
use crate::problem::{Code, Problem};
use crate::reply::{Answered, MetricsPage, Reply};
use crate::routes;
use std::sync::Arc;

/// The operations on the service itself.
#[derive(Debug)]
pub struct Service {
    /// The state that all requests share.
    pub app: Arc<App>,
}

/// The caller.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Whoami")]
pub struct WhoamiView {
    /// The token's subject.
    pub subject: String,
    /// The token's roles, as far as FireFlow knows them.
    pub roles: Vec<String>,
    /// The tenants whose firewalls the caller can see; null: all.
    pub tenants: Option<Vec<String>>,
    /// When the token expires.
    pub expires_at: String,
}

/// A status and nothing else.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProbeStatus")]
pub struct StatusView {
    /// `ok`.
    pub status: String,
}

/// The health of the service.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Health")]
pub struct HealthView {
    /// `OK`, or `unavailable` if the database does not respond, lacks migrations or accepts no
    /// writes.
    pub status: String,
    /// The program's version.
    pub version: String,
    /// `sqlite` or `postgres`.
    pub database: String,
    /// Whether the database responds and accepts writes, and all migrations are applied.
    pub is_ready: bool,
    /// The maximum number of database connections.
    pub max_connections: u32,
    /// How long the process has been running, in seconds.
    pub uptime_s: i64,
    /// The configured files of secrets, public keys and revocations.
    pub key_files: Vec<KeyFileView>,
}

/// The state of a file of secrets, public keys or revocations.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "KeyFile")]
pub struct KeyFileView {
    /// `secrets`, `public_keys` or `revocations`.
    pub file: String,
    /// `current`: its content is in use; `kept`: it cannot be read or contains no valid entry, and
    /// its previous content is still in use; `withdrawn`: this has lasted for too long, and none of
    /// its content is in use any more.
    pub state: String,
    /// The fault of the file or of a part of it; null: none.
    pub fault: Option<String>,
    /// How many of its secrets, keys or revocations are in use.
    pub entries: u64,
}

impl From<KeyFileStatus> for KeyFileView {
    fn from(status: KeyFileStatus) -> Self {
        Self {
            file: status.file.as_str().to_owned(),
            state: status.state.as_str().to_owned(),
            fault: status.fault,
            entries: u64::try_from(status.entries).unwrap_or(u64::MAX),
        }
    }
}

#[OpenApi(tag = "Tag::Service")]
impl Service {
    /// The rows of these operations.
    pub const OPERATIONS: &[Operation] =
        &[Self::WHOAMI, Self::HEALTH, Self::METRICS, Self::LIVE, Self::READY];

    const WHOAMI: Operation = Operation::reads("whoami").open_to(Access::AnyRole);

    /// Who am I?
    ///
    /// The content of the token, as FireFlow interprets it.
    #[oai(path = "/whoami/", method = "get", operation_id = "whoami")]
    async fn whoami(
        &self,
        ctx: As<Anyone>,
        query: QueryString,
    ) -> Result<Reply<Answered, WhoamiView>, Problem> {
        query.open(&Self::WHOAMI).finish()?;
        let actor = &ctx.caller.actor;
        Reply::new(&WhoamiView {
            subject: actor.subject.clone(),
            roles: actor.roles.iter().map(ToString::to_string).collect(),
            tenants: match &actor.visibility {
                fireflow_domain::actor::Visibility::All => None,
                fireflow_domain::actor::Visibility::Tenants(tenants) => {
                    Some(tenants.iter().map(ToString::to_string).collect())
                }
            },
            expires_at: ctx.expires_at.to_string(),
        })
    }

    const HEALTH: Operation =
        Operation::reads("getHealth").open_to(Access::With(Role::HealthCheck));

    /// Detailed health
    #[oai(path = "/health/", method = "get", operation_id = "getHealth")]
    async fn health(
        &self,
        ctx: As<HealthCheck>,
        query: QueryString,
    ) -> Result<Reply<Answered, HealthView>, Problem> {
        query.open(&Self::HEALTH).finish()?;
        let app = &ctx.app;
        // Here, not being ready is an answer, not an error.
        let is_ready = app.backend.storage.is_ready().await.unwrap_or(false);
        let uptime = app.about.running_since.elapsed();
        Reply::new(&HealthView {
            // In upper case, as in the service that this one replaces.
            status: if is_ready { "OK" } else { "unavailable" }.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            database: app.about.database.to_owned(),
            is_ready,
            max_connections: app.about.max_connections,
            uptime_s: i64::try_from(uptime.as_secs()).unwrap_or(i64::MAX),
            key_files: app.authenticator.key_files().into_iter().map(Into::into).collect(),
        })
    }

    const METRICS: Operation =
        Operation::reads("getMetrics").open_to(Access::With(Role::HealthCheck));

    /// Metrics
    ///
    /// For Prometheus: in OpenMetrics if `Accept` asks for it, otherwise in the Prometheus text
    /// format.
    #[oai(path = "/metrics", method = "get", operation_id = "getMetrics")]
    async fn metrics(
        &self,
        ctx: As<HealthCheck>,
        query: QueryString,
        headers: &HeaderMap,
    ) -> Result<MetricsPage, Problem> {
        query.open(&Self::METRICS).finish()?;
        routes::metrics(&ctx.app, headers).await.map(MetricsPage)
    }

    const LIVE: Operation = Operation::reads("getLiveness").open_to(Access::Open);

    /// Liveness probe
    #[oai(path = "/health/live", method = "get", operation_id = "getLiveness")]
    async fn live(&self) -> Result<Reply<Answered, StatusView>, Problem> {
        Reply::new(&StatusView { status: "ok".to_owned() })
    }

    const READY: Operation = Operation::reads("getReadiness").open_to(Access::Open);

    /// Readiness probe
    ///
    /// 200 if the database responds and accepts writes, all migrations are applied, and the process
    /// is not shutting down; otherwise 503.
    #[oai(path = "/health/ready", method = "get", operation_id = "getReadiness")]
    async fn ready(&self) -> Result<Reply<Answered, StatusView>, Problem> {
        if self.app.is_ready().await {
            Reply::new(&StatusView { status: "ok".to_owned() })
        } else {
            Err(Problem::unavailable(Code::Unavailable, "not ready", 1))
        }
    }
}
