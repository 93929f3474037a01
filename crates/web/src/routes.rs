//! Routes, and the layers around them.

use std::sync::Arc;

use base64::Engine as _;
use fireflow_service::work::Limits;
use fireflow_telemetry::metrics::Exposition;
use fireflow_telemetry::routes::Routes;
use poem::endpoint::{make, make_sync};
use poem::http::{HeaderMap, header};
use poem::{Endpoint, EndpointExt, IntoResponse, Response, Route, get};
use poem_openapi::OpenApiService;
use serde_json::Value;

use crate::api::acceptances::Acceptances;
use crate::api::analyses::Analyses;
use crate::api::audit::Audit;
use crate::api::firewalls::Firewalls;
use crate::api::inspections::Inspections;
use crate::api::policies::Policies;
use crate::api::rules::Rules;
use crate::api::service::Service;
use crate::app::App;
use crate::middleware::envelope::envelope;
use crate::middleware::limits::guard;
use crate::openapi;
use crate::operation::Operation;
use crate::problem::Problem;

type Api = (Firewalls, Policies, Rules, Inspections, Analyses, Acceptances, Audit, Service);

/// The rows of all operations, by group.
pub const OPERATIONS: [&[Operation]; 8] = [
    Firewalls::OPERATIONS,
    Policies::OPERATIONS,
    Rules::OPERATIONS,
    Inspections::OPERATIONS,
    Analyses::OPERATIONS,
    Acceptances::OPERATIONS,
    Audit::OPERATIONS,
    Service::OPERATIONS,
];

/// The row of an operation.
fn row(id: &str) -> Option<&'static Operation> {
    OPERATIONS.into_iter().flatten().find(|operation| operation.id == id)
}

fn service(app: &Arc<App>) -> OpenApiService<Api, ()> {
    let service = Service { app: Arc::clone(app) };
    let api = (Firewalls, Policies, Rules, Inspections, Analyses, Acceptances, Audit, service);
    OpenApiService::new(api, "FireFlow", env!("CARGO_PKG_VERSION"))
}

/// The description of the API, generated from the code.
///
/// # Errors
/// Returns an error if the framework's document lacks the structure that the corrections expect,
/// which is a defect.
pub fn description(app: &Arc<App>) -> anyhow::Result<Value> {
    openapi::corrected(&service(app).spec(), &app.base_path, row)
}

/// The whole service.
///
/// # Errors
/// Returns an error if the description cannot be generated, which is a defect.
pub fn endpoint(
    app: &Arc<App>,
    limits: &Limits,
) -> anyhow::Result<impl Endpoint<Output = Response> + use<>> {
    let service = service(app);
    let raw = service.spec();
    let document = openapi::corrected(&raw, &app.base_path, row)?;
    let json = serde_json::to_string_pretty(&document)?;
    let compact = serde_json::to_string(&document)?;
    // The page contains its scripts and styles, so it loads nothing from other servers.
    let html = service.swagger_ui_html().replace(&raw, &compact);
    // An empty icon prevents the browser from requesting one.
    let html = html.replacen("<head>", "<head><link rel=\"icon\" href=\"data:,\">", 1);
    let swagger_ui = Arc::new(page(html));
    let paths = Arc::new(Routes::new(&document, &app.base_path));

    let filter_schema = serde_json::to_string_pretty(&openapi::filters::filter_schema())?;
    let to_swagger = format!("{}/docs/swagger-ui", app.base_path);
    let docs = Route::new()
        .at("/openapi.json", text("application/json", json))
        .at("/filter-schema.json", text("application/json", filter_schema))
        .at("/openapi.yaml", text("application/yaml", openapi::yaml(&document)))
        .at("/swagger-ui", Arc::clone(&swagger_ui))
        .at("/swagger-ui/", swagger_ui)
        .at("/start", page(start_page(&app.base_path)))
        .at(
            "/",
            get(make_sync(move |_| {
                Response::builder()
                    .status(poem::http::StatusCode::SEE_OTHER)
                    .header(header::LOCATION, &to_swagger)
                    .finish()
            })),
        );
    let routes = Route::new().nest("/docs", docs).nest("/", service);

    let (guarded, limits) = (Arc::clone(app), limits.clone());
    let inner = routes.around(move |next, request| {
        guard(Arc::clone(&guarded), row, limits.clone(), next, request)
    });
    let based: poem::endpoint::BoxEndpoint<'static, Response> = if app.base_path.is_empty() {
        inner.map_to_response().boxed()
    } else {
        Route::new().nest(&app.base_path, inner).boxed()
    };
    let outer = Arc::clone(app);
    Ok(based.around(move |next, request| {
        envelope(Arc::clone(&outer), Arc::clone(&paths), next, request)
    }))
}

/// The endpoint of the separate listener for metrics, which serves nothing else.
pub fn metrics_endpoint(app: &Arc<App>) -> impl Endpoint<Output = Response> + 'static {
    let app = Arc::clone(app);
    let metrics = make(move |request| {
        let app = Arc::clone(&app);
        async move { metrics(&app, request.headers()).await.map_err(poem::Error::from) }
    });
    Route::new().at("/metrics", get(metrics)).map_to_response()
}

/// The page of metrics, in the requested format.
///
/// # Errors
/// Returns `Code::Internal` if the page cannot be made, which is a defect.
pub(crate) async fn metrics(app: &App, headers: &HeaderMap) -> Result<Response, Problem> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let exposition = Exposition::asked_for(accept.unwrap_or_default());
    let page = app.metrics(exposition).await?;
    Ok(Response::builder().content_type(exposition.media_type()).body(page))
}

fn text(content_type: &'static str, body: String) -> impl Endpoint<Output = Response> + 'static {
    // The text is kept while the service runs, so its spare capacity is released.
    let body = bytes::Bytes::from(body.into_boxed_str().into_boxed_bytes());
    get(make_sync(move |_| {
        Response::builder()
            .content_type(content_type)
            .header(header::CACHE_CONTROL, "no-cache")
            .body(body.clone())
    }))
}

/// What a browser shows at `/`.
fn start_page(base_path: &str) -> String {
    include_str!("start.html")
        .replace("{base}", base_path)
        .replace("{version}", env!("CARGO_PKG_VERSION"))
}

/// A page whose scripts, if it has any, are its own and ask only this service.
fn page(html: String) -> impl Endpoint<Output = Response> + 'static {
    let policy = content_policy(&html);
    text("text/html; charset=utf-8", html).after(move |answer: poem::Result<Response>| {
        let policy = policy.clone();
        async move {
            answer
                .map(|answer| answer.with_header("content-security-policy", policy).into_response())
        }
    })
}

/// A content security policy that names the page's scripts by their hashes. Those scripts set the
/// styles at run time, so hashes cannot name the styles.
fn content_policy(html: &str) -> String {
    let mut hashes = String::new();
    let mut rest = html;
    // Scripts are found one after the other, because a script can contain the text of a tag.
    while let Some((_, tag)) = rest.split_once("<script") {
        let Some((attributes, script)) = tag.split_once('>') else { break };
        let Some((script, behind)) = script.split_once("</script>") else { break };
        if !attributes.contains("src=") {
            let digest = <sha2::Sha256 as sha2::Digest>::digest(script);
            let digest = base64::engine::general_purpose::STANDARD.encode(digest);
            hashes.push_str(&format!(" 'sha256-{digest}'"));
        }
        rest = behind;
    }
    format!(
        "default-src 'none'; script-src{hashes}; style-src 'unsafe-inline'; img-src data:; \
         font-src data:; connect-src 'self'; form-action 'none'; base-uri 'none'; \
         frame-ancestors 'none'"
    )
}
