//! A service for one test, with its own database, clock and tokens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use fireflow::listener::{self, Certificate, ConnectionLimits};
use fireflow_auth::{Authenticator, Revocations, Secret, TokenRequest, TokenRules, Trust};
use fireflow_domain::actor::Role;
use fireflow_domain::read_only::RULE;
use fireflow_domain::text::Tenant;
use fireflow_domain::time::{Clock, Instant};
use fireflow_formats::views::RuleView;
use fireflow_service::analyses::{Analyses, AnalysisBounds, AnalysisSettings};
use fireflow_service::backend::Backend;
use fireflow_service::budget::{Budget, BudgetState};
use fireflow_service::inspections::{CompilationLimits, Inspections};
use fireflow_service::readiness::Readiness;
use fireflow_service::streams::Streams;
use fireflow_service::work::Limits;
use fireflow_storage::DatabaseKind;
use fireflow_storage::testing::TestDatabase;
use fireflow_telemetry::Telemetry;
use fireflow_web::{About, App, Gate, WrittenRules};
use poem::endpoint::BoxEndpoint;
use poem::http::{HeaderMap, Method, StatusCode};
use poem::test::TestClient;
use poem::{EndpointExt, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

pub(crate) const SECRET: &[u8] = b"a secret of the tests, long enough";
pub(crate) const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;

/// A clock that only moves when a test advances it.
#[derive(Debug)]
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        Instant::from_micros(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

pub(crate) struct Api {
    pub(crate) client: TestClient<BoxEndpoint<'static, Response>>,
    pub(crate) db: Arc<TestDatabase>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) document: Value,
    authenticator: Authenticator,
    app: Arc<App>,
    limits: Limits,
    token: String,
}

/// An answer whose body was read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).to_str().unwrap()
    }

    /// Checks the status and returns the answer's JSON.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// Checks the status, the code and the common form of problems, and returns the problem.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let body = self.json();
        assert_eq!((&body["status"], &body["code"]), (&json!(status), &json!(code)));
        assert_eq!(body["type"], format!("urn:fireflow:problem:{code}"));
        assert_eq!(body["instance"], self.header("x-request-id"));
        for member in ["title", "detail"] {
            assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{body}");
        }
        body
    }
}

/// What units of work share, before anybody else has it.
pub(crate) fn backend(app: &mut App) -> &mut Backend {
    Arc::get_mut(&mut app.backend).unwrap()
}

/// Has a service that has not begun recorded elsewhere.
pub(crate) fn record_in(app: &mut App, telemetry: &Arc<Telemetry>) {
    app.telemetry = Arc::clone(telemetry);
    backend(app).monitor = Arc::<Telemetry>::clone(telemetry);
}

/// Trusts tokens that are signed with one of these secrets.
pub(crate) fn trust(secrets: &[&[u8]]) -> Trust {
    let secrets = secrets.iter().map(|secret| Secret::new(*secret)).collect();
    Trust::new(secrets, Vec::new(), TokenRules::default(), Revocations::default())
}

impl Api {
    pub(crate) async fn new(kind: DatabaseKind) -> Self {
        Self::on(TestDatabase::new(kind).await)
    }

    /// A service that accepts no more requests.
    pub(crate) async fn overloaded() -> Self {
        let none = Arc::new(Semaphore::new(0));
        let db = TestDatabase::new(DatabaseKind::Sqlite).await;
        Self::built(db, |_, limits| limits.in_flight = none)
    }

    pub(crate) fn on(db: TestDatabase) -> Self {
        Self::built(db, |_, _| {})
    }

    /// A service whose app and limits are changed before it starts.
    pub(crate) fn built(
        db: impl Into<Arc<TestDatabase>>,
        change: impl FnOnce(&mut App, &mut Limits),
    ) -> Self {
        let db = db.into();
        let start = Instant::parse("2026-11-24T12:00:00Z").unwrap();
        let clock = Arc::new(TestClock(AtomicI64::new(start.micros())));
        let authenticator = Authenticator::new(trust(&[SECRET]));
        let telemetry = Arc::<Telemetry>::default();
        let mut app = App {
            backend: Arc::new(Backend {
                storage: Arc::new(db.database.clone()),
                monitor: Arc::<Telemetry>::clone(&telemetry),
                budget: Budget::bytes(256 * 1024 * 1024),
                turns: Budget::turns(2),
                request_timeout: Duration::from_secs(300),
            }),
            clock: Arc::<TestClock>::clone(&clock),
            authenticator: authenticator.clone(),
            gate: Gate::default(),
            base_path: String::new(),
            streams: Streams::new(Duration::from_secs(300)),
            about: About {
                database: "test",
                max_connections: 1,
                started_at: start,
                running_since: std::time::Instant::now(),
            },
            telemetry,
            pools: db.database.pools(),
            written: WrittenRules::default(),
            inspections: Inspections::new(
                64 * 1024 * 1024,
                // Long enough for a slow machine to compile.
                CompilationLimits {
                    time: Duration::from_secs(300),
                    ..CompilationLimits::default()
                },
            ),
            // Long enough for a slow machine to analyze.
            analyses: Analyses::new(AnalysisSettings {
                bounds: AnalysisBounds {
                    max_time: Duration::from_secs(300),
                    ..AnalysisBounds::default()
                },
                ..AnalysisSettings::default()
            }),
            is_stopping: AtomicBool::new(false),
            readiness: Readiness::default(),
        };
        let mut limits = Limits {
            max_body_bytes: MAX_BODY_BYTES,
            max_rule_set_bytes: 2 * MAX_BODY_BYTES,
            body_stall: Duration::from_secs(120),
            // Longer than anything takes, even on a busy machine.
            request_timeout: Duration::from_secs(300),
            in_flight: Arc::new(Semaphore::new(1_000)),
        };
        change(&mut app, &mut limits);
        let app = Arc::new(app);
        let document = fireflow_web::description(&app).unwrap();
        let client = TestClient::new(fireflow_web::endpoint(&app, &limits).unwrap().boxed());
        let mut api =
            Self { client, db, clock, document, authenticator, app, limits, token: String::new() };
        // Longer than any test advances the clock.
        api.token = api.mint("tester", &Role::ALL, None, 400 * 86_400);
        api
    }

    /// Serves over TCP. The service stops when the returned sender is used or dropped; then the
    /// task ends.
    pub(crate) async fn listen(
        &self,
        limits: ConnectionLimits,
        certificate: Option<Certificate>,
    ) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let endpoint = fireflow_web::endpoint(&self.app, &self.limits).unwrap();
        let app = Arc::clone(&self.app);
        let stopped = async move {
            let _dropped = stopped.await.is_err();
            app.is_stopping.store(true, Ordering::SeqCst);
        };
        let grace = crate::service::PATIENCE;
        let open = self.app.telemetry.metrics.connections.clone();
        let served = listener::serve(listener, endpoint, limits, certificate, open, stopped, grace);
        (address, stop, tokio::spawn(served))
    }

    /// The processor turns, and the number of waiting requests.
    pub(crate) fn turns(&self) -> BudgetState {
        self.app.backend.turns.state()
    }

    /// How much memory requests have borrowed.
    pub(crate) fn borrowed(&self) -> u64 {
        self.app.backend.budget.state().used.iter().sum()
    }

    /// Waits until requests hold no memory.
    pub(crate) async fn nothing_is_borrowed(&self) {
        let start = std::time::Instant::now();
        while self.borrowed() > 0 {
            assert!(start.elapsed() < Duration::from_secs(60), "{:?}", self.app.backend.budget);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many more requests may be served at once.
    pub(crate) fn free_permits(&self) -> usize {
        self.limits.in_flight.available_permits()
    }

    pub(crate) fn token_for(&self, roles: &[Role], tenants: Option<&[&str]>) -> String {
        self.mint("tester", roles, tenants, 3_600)
    }

    pub(crate) fn token_of(&self, subject: &str, roles: &[Role]) -> String {
        self.mint(subject, roles, None, 3_600)
    }

    fn mint(
        &self,
        subject: &str,
        roles: &[Role],
        tenants: Option<&[&str]>,
        lifetime_s: i64,
    ) -> String {
        let tenants =
            tenants.map(|words| words.iter().map(|word| Tenant::parse(word).unwrap()).collect());
        let request = TokenRequest {
            subject: subject.to_owned(),
            roles: roles.to_vec(),
            tenants,
            lifetime_s,
        };
        self.authenticator.mint(&request, self.clock.now()).unwrap()
    }

    /// Sends a request as given.
    pub(crate) async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, path).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.0;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.into_body().into_string().await.unwrap();
        Answer { status, headers, text }
    }

    /// Sends a request and leaves the body of its answer unread.
    pub(crate) async fn open(&self, path: &str, accept: &str) -> poem::Response {
        self.open_as(&self.token, path, accept).await
    }

    /// Sends such a request with another token.
    pub(crate) async fn open_as(&self, token: &str, path: &str, accept: &str) -> poem::Response {
        let authorization = format!("Bearer {token}");
        let request = self.client.get(path).header("authorization", authorization);
        request.header("accept", accept).send().await.0
    }

    /// Sends JSON with the given token and headers.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let authorization = format!("Bearer {token}");
        let mut all = vec![("authorization", authorization.as_str())];
        if body.is_some() {
            all.push(("content-type", "application/json"));
        }
        all.extend(headers);
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        self.raw(method, path, &all, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &self.token, &[], None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &self.token, &[], Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, &self.token, &[], Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &self.token, &[], Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &self.token, &[], None).await
    }

    pub(crate) async fn with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        self.send(method, path, &self.token, headers, body).await
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Creates a firewall with a policy that denies, and returns the policy's path.
    pub(crate) async fn policy(&self) -> String {
        let firewall = self.post("/firewalls/", &json!({"name": "edge"})).await.expect(201);
        let path = format!("/firewalls/{}/filtering-policies/", firewall["id"]);
        let body = json!({"name": "in", "default_action": "DENY"});
        let policy = self.post(&path, &body).await.expect(201);
        format!("{path}{}/", policy["id"])
    }

    /// Creates a rule below a policy's path: a plain rule with changes.
    pub(crate) async fn rule(&self, policy: &str, changes: &Value) -> Value {
        self.try_rule(policy, changes).await.expect(201)
    }

    pub(crate) async fn try_rule(&self, policy: &str, changes: &Value) -> Answer {
        self.post(&format!("{policy}rules/"), &changed(plain_rule(), changes)).await
    }

    /// The action on a packet, and the id of the rule that decides.
    pub(crate) async fn verdict(&self, policy: &str, query: &str) -> (String, Option<i64>) {
        let answer = self.get(&format!("{policy}inspections/?{query}")).await.expect(200);
        let rule = answer["active_rule"]["id"].as_i64();
        assert_eq!(answer["reason"], if rule.is_some() { "rule" } else { "default" });
        assert_eq!(answer["permitted"], answer["action"] == "ALLOW");
        (answer["action"].as_str().unwrap().to_owned(), rule)
    }
}

/// A rule that allows all TCP.
pub(crate) fn plain_rule() -> Value {
    json!({
        "action": "ALLOW",
        "priority": 100,
        "protocols": ["tcp"],
        "sources": [{"address": "any"}],
        "destinations": [{"address": "any"}],
    })
}

/// A resource with some members changed.
pub(crate) fn changed(mut resource: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        resource[name] = value.clone();
    }
    resource
}

/// The members of a rule that requests write, except the priority.
pub(crate) fn written_members() -> impl Iterator<Item = &'static str> {
    let is_read_only = |name: &str| RULE.iter().any(|member| member.name() == name);
    RuleView::MEMBERS.iter().copied().filter(move |name| !is_read_only(name) && *name != "priority")
}

/// A TCP packet as a query.
pub(crate) fn tcp(source: &str, destination: &str, port: u16) -> String {
    format!(
        "source_address={source}&source_port=40000&destination_address={destination}\
         &destination_port={port}"
    )
}

/// The path of the firewall above a policy's path.
pub(crate) fn firewall_of(policy: &str) -> &str {
    policy.split_once("filtering-policies").unwrap().0
}

/// A text, encoded as a value of a query.
pub(crate) fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The path of the list that contains a policy.
pub(crate) fn list_of(policy: &str) -> String {
    format!("{}filtering-policies/", firewall_of(policy))
}
