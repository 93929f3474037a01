//! An example to try things on: a firewall, a policy, twelve rules with three faults in them, and
//! four questions with their answers. It calls the API itself, without a socket.

use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use fireflow_auth::TokenRequest;
use fireflow_domain::actor::Role;
use fireflow_domain::time::Clock;
use poem::http::{Method, StatusCode, header};
use poem::{Endpoint, Request, Response};
use serde_json::{Value, json};

use super::serve::service;
use super::{Failure, authenticator, clock, local_secret, open, options_of, print};
use crate::settings::{Environment, Settings};

const RULES: &str = include_str!("demo.json");
const NAME: &str = "demo";

/// The questions, each with the query that answers it.
const QUESTIONS: [(&str, &str); 4] = [
    (
        "Can the internet reach the web server?",
        "source_address=192.0.2.7&source_port=40000&destination_address=198.51.100.10\
         &destination_port=443&protocol=tcp",
    ),
    (
        "Can the internet reach the name server over IPv6?",
        "source_address=2001:db8:7::7&source_port=40000&destination_address=2001:db8:10::53\
         &destination_port=53&protocol=udp",
    ),
    (
        "Is SSH restricted to the office?",
        "source_address=203.0.113.7&source_port=40000&destination_address=198.51.100.10\
         &destination_port=22&protocol=tcp",
    ),
    (
        "Why? `explanation.later` contains the rule that should have prevented it.",
        "source_address=203.0.113.7&source_port=40000&destination_address=198.51.100.10\
         &destination_port=22&protocol=tcp&explain=true",
    ),
];

/// Writes the example to the database, unless it exists, and prints the questions.
pub(super) async fn demo(settings: &Settings) -> Result<(), Failure> {
    if settings.environment != Environment::Local {
        return Err(Failure::usage(anyhow!("demo: requires FIREFLOW_ENVIRONMENT=local")));
    }
    let authenticator = authenticator(settings, local_secret(settings)?.as_ref())?;
    let request = TokenRequest {
        subject: NAME.to_owned(),
        roles: Role::ALL.to_vec(),
        tenants: None,
        lifetime_s: 60,
    };
    let token = authenticator.mint(&request, clock().now()).map_err(Failure::usage)?;
    let database = open(options_of(settings, "demo")).await?;
    // The setting may be `local` by mistake, so the database's own record decides. It is read
    // before anything changes.
    let made_in = database.environment().await?;
    if let Some(environment) = made_in.filter(|it| it != Environment::Local.as_str()) {
        database.close().await?;
        return Err(Failure::usage(anyhow!(
            "demo: the database was created in the environment `{environment}`; the example is \
             written only to a database created in `local`"
        )));
    }
    database.migrate_up(settings.environment.as_str()).await?;
    let (app, limits) = service(settings, &database, authenticator, Arc::default());
    let api = Api {
        endpoint: fireflow_web::endpoint(&app, &limits)?,
        token,
        base: &settings.http.base_path,
    };
    let path = match api.policy().await? {
        Some(path) => path,
        None => api.fill().await?,
    };
    print(&api.questions(settings, &path).await?)?;
    database.close().await?;
    Ok(())
}

struct Api<'a, E> {
    endpoint: E,
    token: String,
    base: &'a str,
}

impl<E: Endpoint<Output = Response>> Api<'_, E> {
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let uri = format!("{}{path}", self.base).parse().context("a path of the demo")?;
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        if body.is_some() {
            request = request.content_type("application/json");
        }
        let request = request.body(body.map(Value::to_string).unwrap_or_default());
        let response = self.endpoint.get_response(request).await;
        let status = response.status();
        let text = response.into_body().into_string().await?;
        let answer: Value = serde_json::from_str(&text)?;
        if !matches!(status, StatusCode::OK | StatusCode::CREATED) {
            let detail = answer.get("detail").and_then(Value::as_str).unwrap_or_default();
            bail!("the demo was refused: {detail}");
        }
        Ok(answer)
    }

    /// The path of the example's policy, if it exists.
    async fn policy(&self) -> anyhow::Result<Option<String>> {
        let firewalls = self.send(Method::GET, &format!("/firewalls/?name={NAME}"), None).await?;
        let Some(firewall) = first_id(&firewalls) else { return Ok(None) };
        let path = format!("/firewalls/{firewall}/filtering-policies/");
        let policies = self.send(Method::GET, &format!("{path}?name=inbound"), None).await?;
        match first_id(&policies) {
            Some(policy) => Ok(Some(format!("{path}{policy}/"))),
            None => bail!("the firewall `{NAME}` has no policy `inbound`; delete it and try again"),
        }
    }

    async fn fill(&self) -> anyhow::Result<String> {
        let firewall = json!({"name": NAME, "description": "An example that can be deleted."});
        let firewall = self.send(Method::POST, "/firewalls/", Some(&firewall)).await?;
        let path = format!("/firewalls/{}/filtering-policies/", id(&firewall)?);
        let policy = json!({"name": "inbound", "default_action": "DENY"});
        let policy = self.send(Method::POST, &path, Some(&policy)).await?;
        let path = format!("{path}{}/", id(&policy)?);
        let rules = serde_json::from_str(RULES)?;
        self.send(Method::PUT, &format!("{path}rules/"), Some(&rules)).await?;
        Ok(path)
    }

    async fn questions(&self, settings: &Settings, path: &str) -> anyhow::Result<String> {
        let port = settings.listen.port();
        let url = format!("http://localhost:{port}{}{path}inspections/", settings.http.base_path);
        let mut text = String::from(
            "The firewall `demo` has a policy `inbound` with twelve rules, and three of them are \
             wrong.\nStart the service, then ask:\n\nTOKEN=$(fireflow jwt)   # in a checkout: \
             cargo xtask jwt\n",
        );
        for (question, query) in QUESTIONS {
            let answer =
                self.send(Method::GET, &format!("{path}inspections/?{query}"), None).await?;
            text.push_str(&format!(
                "\n# {question}\ncurl -s -H \"Authorization: Bearer $TOKEN\" \"{url}?{query}\"\n{}\n",
                told(&answer)
            ));
        }
        Ok(text.trim_end().to_owned())
    }
}

/// The part of the answer that the question is about; `…` marks what is left out.
fn told(answer: &Value) -> String {
    let part = |pointer: &str| answer.pointer(pointer).unwrap_or(&Value::Null);
    let mut text = format!(
        "{{\"action\":{},\"permitted\":{},\"reason\":{},\"active_rule\":{{\"id\":{},…,\"name\":{},…}},…",
        part("/action"),
        part("/permitted"),
        part("/reason"),
        part("/active_rule/id"),
        part("/active_rule/name"),
    );
    if let Some(later) = answer.pointer("/explanation/later/0") {
        let part = |name: &str| later.get(name).unwrap_or(&Value::Null);
        text.push_str(&format!(
            ",\"explanation\":{{…,\"later\":[{{\"id\":{},\"name\":{},\"action\":{},…}}],…}}",
            part("id"),
            part("name"),
            part("action"),
        ));
    }
    text.push('}');
    text
}

fn first_id(list: &Value) -> Option<i64> {
    list.pointer("/items/0/id").and_then(Value::as_i64)
}

fn id(made: &Value) -> anyhow::Result<i64> {
    made.get("id").and_then(Value::as_i64).context("an id")
}
