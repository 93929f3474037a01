//! Baselines for the service: poem handlers that verify the same token with the same library on
//! each request. One of them also reads one row with the database driver directly.

use std::process::ExitCode;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use poem::http::{StatusCode, header};
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::web::{Data, Path};
use poem::{EndpointExt, Request, Response, Route, Server, get, handler};
use sea_orm::sqlx::{self, PgPool, Row, SqlitePool};
use serde_json::{Map, Value, json};

#[derive(Clone)]
struct Key(DecodingKey);

/// The subject of the request's token.
fn subject(request: &Request, key: &Key) -> poem::Result<String> {
    let refused = || poem::Error::from_status(StatusCode::UNAUTHORIZED);
    let value = request.headers().get(header::AUTHORIZATION).ok_or_else(refused)?;
    let token =
        value.to_str().ok().and_then(|it| it.strip_prefix("Bearer ")).ok_or_else(refused)?;
    let validation = Validation::new(Algorithm::HS256);
    let claims = jsonwebtoken::decode::<Map<String, Value>>(token, &key.0, &validation)
        .map_err(|_| refused())?
        .claims;
    let subject = claims.get("sub").and_then(Value::as_str).ok_or_else(refused)?;
    Ok(subject.to_owned())
}

fn answer(body: &Value) -> Response {
    Response::builder().content_type("application/json").body(body.to_string())
}

#[handler]
fn whoami(request: &Request, key: Data<&Key>) -> poem::Result<Response> {
    let subject = subject(request, &key)?;
    Ok(answer(&json!({
        "subject": subject,
        "roles": ["viewer", "editor", "admin", "health_check"],
        "tenants": null,
        "expires_at": "2027-01-01T00:00:00.000000Z",
    })))
}

/// The query that both databases run.
const SELECT: &str = "SELECT id, name, tenant, description, labels, policy_count, revision, \
                      created_at, created_by, updated_at, updated_by FROM firewall \
                      WHERE deleted_at IS NULL AND id = $1";

macro_rules! firewall {
    ($name:ident, $pool:ty) => {
        #[handler]
        async fn $name(
            request: &Request,
            Path(id): Path<i64>,
            key: Data<&Key>,
            pool: Data<&$pool>,
        ) -> poem::Result<Response> {
            subject(request, &key)?;
            let failed = |_| poem::Error::from_status(StatusCode::INTERNAL_SERVER_ERROR);
            let row = sqlx::query(SELECT).bind(id).fetch_one(*pool).await.map_err(failed)?;
            let text = |index: usize| row.get::<String, _>(index);
            let number = |index: usize| row.get::<i64, _>(index);
            let labels: Value = serde_json::from_str(&text(4)).unwrap_or_default();
            Ok(answer(&json!({
                "id": number(0), "name": text(1), "tenant": text(2), "description": text(3),
                "labels": labels, "policy_count": number(5), "revision": number(6),
                "created_at": number(7), "created_by": text(8),
                "updated_at": number(9), "updated_by": text(10),
            })))
        }
    };
}

firewall!(sqlite_firewall, SqlitePool);
firewall!(postgres_firewall, PgPool);

/// Serves one of the handlers until the process is killed.
pub(crate) fn serve(what: &str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let secret = std::fs::read(".fireflow/jwt-secret").unwrap();
    let key = Key(DecodingKey::from_secret(secret.trim_ascii()));
    let url = std::env::var("FIREFLOW_DATABASE_URL").unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
        let address = listener.local_addr().first().unwrap().to_string();
        println!("http://{}", address.trim_start_matches("socket://"));
        let routes = Route::new().at("/whoami/", get(whoami));
        let server = Server::new_with_acceptor(listener);
        // The service's pool has the same number of connections.
        let most = 4 * u32::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
        if what == "token" {
            server.run(routes.data(key)).await.unwrap();
        } else if url.starts_with("sqlite:") {
            let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(most);
            let pool = options.test_before_acquire(false).connect(&url).await.unwrap();
            let routes = routes.at("/firewalls/:id/", get(sqlite_firewall));
            server.run(routes.data(key).data(pool)).await.unwrap();
        } else {
            let options = sqlx::postgres::PgPoolOptions::new().max_connections(most);
            let pool = options.connect(&url).await.unwrap();
            let routes = routes.at("/firewalls/:id/", get(postgres_firewall));
            server.run(routes.data(key).data(pool)).await.unwrap();
        }
    });
    ExitCode::SUCCESS
}
