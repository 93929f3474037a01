//! Answers, serialized once by our own serializer, without a second tree of values.

use std::marker::PhantomData;

use bytes::Bytes;
use fireflow_domain::error::Error;
use fireflow_domain::mark::CurrentState;
use fireflow_domain::page::Page;
use fireflow_domain::store::KeptAnswer;
use fireflow_domain::usecase::policy::LeftOutPolicies;
use fireflow_formats::rule_export::LineFormat;
use fireflow_formats::selected::{Fields, Selected};
use fireflow_formats::views::ShowLeftOut;
use fireflow_service::session::Repeatable;
use fireflow_telemetry::metrics::Exposition;
use poem::http::{StatusCode, header};
use poem::{Body, IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{
    MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::conditions::{EntityTag, Preconditions, Shown};
use crate::dto::lines::described;
use crate::dto::schema::{reference, register};
use crate::idempotency_key;
use crate::operation::Headers;
use crate::problem::Problem;
use fireflow_formats::pagination::{self, ListAddress};

/// The media type of all successful JSON answers.
pub const JSON: &str = "application/json";
/// The media type of SARIF.
pub const SARIF: &str = "application/sarif+json";
const CONTENT_TYPE: &str = "content-type";
const PAGINATION_NAME: &str = "x-pagination";
const LEFT_OUT_NAME: &str = "fireflow-left-out";
const LINK_NAME: &str = "link";
/// The most bytes that are hashed on the threads that serve requests; estimated to take a tenth of
/// a millisecond.
const HASHED_AT_ONCE: usize = 64 * 1024;

/// The status, headers and description of an answer, for the API description.
pub trait AnswerKind {
    /// The status.
    const STATUS: StatusCode = StatusCode::OK;
    /// What the status means here.
    const DESCRIPTION: &'static str;
    /// The headers, each with its description.
    const HEADERS: Headers = &[];
    /// The line formats of its body besides JSON, each with the description of its lines.
    const LINES: &'static [(LineFormat, &'static str)] = &[];
    /// The other media types of its body, each with a description.
    const DOCUMENTS: &'static [(&'static str, &'static str)] = &[];
    /// Whether the answer can be `304` instead.
    const CAN_BE_UNCHANGED: bool = false;
    /// Whether the answer can be `202` instead, because it takes long to compute.
    const CAN_BE_UNDER_WAY: bool = false;
    /// Whether it has a body.
    const HAS_BODY: bool = true;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident { $($item:tt)* })+) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub struct $name;

            impl AnswerKind for $name { $($item)* }
        )+
    };
}

/// Only for pages with a number and a total.
const PAGINATION: (&str, &str) =
    ("X-Pagination", "The page's number and its neighbors, as JSON; absent without a total");
/// Only if something is left out.
const LEFT_OUT: (&str, &str) = (
    "FireFlow-Left-Out",
    "The ids of the policies that the list leaves out, because a newer version wrote rules in them that \
     this version cannot read; absent if there are none",
);
const LINK: (&str, &str) = (
    "Link",
    "Links to the `next` page, with a cursor, and to `first` and `prev` if pages have numbers \
     (RFC 8288); left out if they are longer than 2,048 bytes",
);
const ETAG: (&str, &str) = (
    "ETag",
    "An opaque tag of the resource's state and of the response, for `If-Match` and `If-None-Match`",
);

/// The headers of an answer that is being computed.
const UNDER_WAY: Headers =
    &[("Location", "Where to ask again"), ("Retry-After", "When to ask again, in seconds")];

/// The line formats of a list of rules.
const RULE_LINES: &[(LineFormat, &str)] = &[
    (LineFormat::Csv, "A header and one line per rule (RFC 4180)"),
    (LineFormat::Ndjson, "One rule per line, each as in `items`"),
];
const VERDICT_LINES: &[(LineFormat, &str)] = &[(
    LineFormat::Ndjson,
    "One line per packet: its `line`, and `action`, `permitted`, `reason` and `active_rule` as in the \
     array; or its `line`, and its `error`: `code`, `detail` and `errors` as in a problem",
)];

kinds! {
    /// One resource.
    Fetched {
        const DESCRIPTION: &'static str = "The requested data";
        const HEADERS: Headers = &[ETAG];
        const CAN_BE_UNCHANGED: bool = true;
    }
    /// An answer without a state of its own.
    Answered {
        const DESCRIPTION: &'static str = "The requested data";
    }
    /// Verdicts on many packets.
    Inspected {
        const DESCRIPTION: &'static str = "The requested data";
        const LINES: &'static [(LineFormat, &'static str)] = VERDICT_LINES;
    }
    /// The findings of a policy.
    Analysed {
        const DESCRIPTION: &'static str = "The findings";
        const LINES: &'static [(LineFormat, &'static str)] =
            &[(LineFormat::Csv, "A header and one line per finding (RFC 4180)")];
        const DOCUMENTS: &'static [(&'static str, &'static str)] =
            &[(SARIF, "A log in the format SARIF 2.1.0 (OASIS)")];
        const CAN_BE_UNDER_WAY: bool = true;
    }
    /// A page of a list.
    Listed {
        const DESCRIPTION: &'static str = "A page of the list";
        const HEADERS: Headers =
            &[PAGINATION, LINK, LEFT_OUT];
    }
    /// A page of rules of all policies.
    ListedRules {
        const DESCRIPTION: &'static str = "A page of the list";
        const HEADERS: Headers = &[PAGINATION, LINK, LEFT_OUT];
        const LINES: &'static [(LineFormat, &'static str)] = RULE_LINES;
    }
    /// A page of a list that has a state of its own.
    ListedWithTag {
        const DESCRIPTION: &'static str = "A page of the list";
        const HEADERS: Headers =
            &[ETAG, PAGINATION, LINK];
        const LINES: &'static [(LineFormat, &'static str)] = RULE_LINES;
        const CAN_BE_UNCHANGED: bool = true;
    }
    /// A new resource.
    Created {
        const STATUS: StatusCode = StatusCode::CREATED;
        const DESCRIPTION: &'static str = "Created";
        const HEADERS: Headers =
            &[ETAG, ("Location", "The path of the created resource")];
    }
    /// A resource after its change.
    Changed {
        const DESCRIPTION: &'static str = "The resource after the change";
        const HEADERS: Headers = &[ETAG];
    }
    /// A restored resource.
    Restored {
        const DESCRIPTION: &'static str = "The restored resource";
        const HEADERS: Headers = &[ETAG];
    }
    /// The resource was deleted.
    Deleted {
        const STATUS: StatusCode = StatusCode::NO_CONTENT;
        const DESCRIPTION: &'static str = "Deleted";
        const HAS_BODY: bool = false;
    }
}

/// An answer of a kind, with a body of a schema.
#[derive(Debug)]
pub struct Reply<K, T> {
    response: Response,
    /// The body again, for answers that are stored under an idempotency key.
    bytes: Bytes,
    shape: PhantomData<fn() -> (K, T)>,
}

impl<K: AnswerKind, T: JsonSchema + Serialize> Reply<K, T> {
    /// An answer with a body.
    ///
    /// # Errors
    /// Returns `Code::Internal` if the body cannot be serialized, which is a defect.
    pub fn new(body: &T) -> Result<Self, Problem> {
        Self::written(body)
    }

    /// An answer with a body of another type, which serializes like the type of the schema.
    ///
    /// # Errors
    /// Returns `Code::Internal` if the body cannot be serialized, which is a defect.
    pub fn written(body: &impl Serialize) -> Result<Self, Problem> {
        Ok(Self::json(serde_json::to_vec(body).map_err(Problem::internal)?))
    }

    /// An answer with only the requested members; in a list, the selection applies to the items.
    /// Takes twice the memory of the text, however many members there are.
    ///
    /// # Errors
    /// Returns `Code::Internal` if the body cannot be serialized, which is a defect.
    pub fn selected(body: &T, fields: Option<&Fields>) -> Result<Self, Problem> {
        let Some(fields) = fields else { return Self::new(body) };
        let whole = serde_json::to_vec(body).map_err(Problem::internal)?;
        Self::written(&Selected::read(&whole, fields).map_err(Problem::internal)?)
    }

    /// An answer with a body that is JSON of its schema.
    #[must_use]
    pub fn json(body: Vec<u8>) -> Self {
        let bytes = Bytes::from(body);
        let response = Response::builder().status(K::STATUS).content_type(JSON).body(bytes.clone());
        Self { response, bytes, shape: PhantomData }
    }

    /// Replaces the body by one that shows more of the same state.
    ///
    /// # Errors
    /// Returns `Code::Internal` if the body cannot be serialized, which is a defect.
    pub fn with_body(self, body: &T) -> Result<Self, Problem> {
        let Self { mut response, .. } = self;
        let bytes = Bytes::from(serde_json::to_vec(body).map_err(Problem::internal)?);
        response.set_body(bytes.clone());
        Ok(Self { response, bytes, shape: PhantomData })
    }

    /// An answer with a complete body in a line format.
    #[must_use]
    pub fn written_lines(format: LineFormat, body: Vec<u8>) -> Self {
        let bytes = Bytes::from(body);
        Self { bytes: bytes.clone(), ..Self::lines(format, bytes) }
    }

    /// An answer with a body in a line format, which may be sent piece by piece.
    #[must_use]
    pub fn lines(format: LineFormat, body: impl Into<Body>) -> Self {
        let response =
            Response::builder().status(K::STATUS).content_type(format.content_type()).body(body);
        Self { response, bytes: Bytes::new(), shape: PhantomData }
    }

    /// An answer with a complete body of another media type.
    #[must_use]
    pub fn document(media_type: &str, body: Vec<u8>) -> Self {
        let bytes = Bytes::from(body);
        let response =
            Response::builder().status(K::STATUS).content_type(media_type).body(bytes.clone());
        Self { response, bytes, shape: PhantomData }
    }

    /// `202`: the answer is being computed. Headers name where and when to ask again.
    #[must_use]
    pub fn under_way() -> Self {
        let response = Response::builder().status(StatusCode::ACCEPTED).finish();
        Self { response, bytes: Bytes::new(), shape: PhantomData }
    }

    /// `304`: the client's copy with this tag is still current.
    #[must_use]
    pub fn unchanged(tag: &EntityTag) -> Self {
        let response = Response::builder().status(StatusCode::NOT_MODIFIED).finish();
        let reply = Self { response, bytes: Bytes::new(), shape: PhantomData };
        reply.with_tag(tag)
    }

    /// Adds a tag.
    #[must_use]
    pub fn with_tag(self, tag: &EntityTag) -> Self {
        self.with_header(header::ETAG, &tag.to_string())
    }

    /// Adds the tag of a state that the body shows completely, as a read does.
    #[must_use]
    pub fn tagged(self, state: impl Into<CurrentState>) -> Self {
        let tag = EntityTag::new(state, self.beside().with(&self.bytes));
        self.with_tag(&tag)
    }

    /// Adds the tag of a state, or returns `304` instead if the client already has the answer.
    /// Costs a hash of the body.
    ///
    /// # Errors
    /// Returns `Error::RevisionMismatch` or another error of the tags if `If-Match` does not hold.
    pub async fn unless_known(
        self,
        conditions: &Preconditions,
        state: impl Into<CurrentState>,
    ) -> Result<Self, Problem> {
        let state = state.into();
        conditions.check(state)?;
        let (beside, bytes) = (self.beside(), self.bytes.clone());
        let hash = move || beside.with(&bytes);
        let shown = if self.bytes.len() > HASHED_AT_ONCE {
            tokio::task::spawn_blocking(hash).await.map_err(Problem::internal)?
        } else {
            hash()
        };
        let tag = EntityTag::new(state, shown);
        Ok(if conditions.knows(&tag) { Self::unchanged(&tag) } else { self.with_tag(&tag) })
    }

    /// Starts the hash of the answer with the format and the pagination headers: lines do not show
    /// the total or the next page.
    fn beside(&self) -> Shown {
        let headers = self.response.headers();
        [CONTENT_TYPE, PAGINATION_NAME, LINK_NAME].into_iter().fold(
            Shown::default(),
            |shown, name| {
                shown.with(headers.get(name).map(|value| value.as_bytes()).unwrap_or_default())
            },
        )
    }

    /// Adds a header. The values are our own; a value that is not valid in a header is left out.
    #[must_use]
    pub fn with_header(mut self, name: header::HeaderName, value: &str) -> Self {
        if let Ok(value) = value.parse() {
            self.response.headers_mut().insert(name, value);
        }
        self
    }

    /// Adds a header with the policies that the answer leaves out, if there are any.
    #[must_use]
    pub fn with_left_out(self, left_out: &LeftOutPolicies) -> Self {
        match left_out.header() {
            Some(ids) => self.with_header(header::HeaderName::from_static(LEFT_OUT_NAME), &ids),
            None => self,
        }
    }

    /// Adds the page's neighbors, and its number and the total if they are known. `scope` is the
    /// list, filter and order that its cursors belong to.
    #[must_use]
    pub fn with_pagination<I>(self, page: &Page<I>, address: &ListAddress, scope: &str) -> Self {
        let mut reply = self;
        if let Some(summary) = pagination::summary(page) {
            let name = header::HeaderName::from_static(PAGINATION_NAME);
            reply = reply.with_header(name, &summary);
        }
        if let Some(links) = address.links(page, scope) {
            reply = reply.with_header(header::LINK, &links);
        }
        reply
    }
}

impl<K: AnswerKind, T: JsonSchema + Serialize> Repeatable for Reply<K, T> {
    fn to_kept(&self) -> KeptAnswer {
        let headers = self.response.headers().iter();
        KeptAnswer {
            status: self.response.status().as_u16(),
            headers: headers
                .filter_map(|(name, value)| {
                    Some((name.to_string(), value.to_str().ok()?.to_owned()))
                })
                .collect(),
            body: self.bytes.to_vec(),
        }
    }

    fn from_kept(kept: KeptAnswer) -> Result<Self, Error> {
        let bytes = Bytes::from(kept.body);
        let status =
            StatusCode::from_u16(kept.status).map_err(|error| Error::Internal(error.into()))?;
        let response = Response::builder().status(status).body(bytes.clone());
        let mut reply = Self { response, bytes, shape: PhantomData };
        for (name, value) in &kept.headers {
            let name: header::HeaderName =
                name.parse().map_err(|_| Error::Internal("a kept header".into()))?;
            reply = reply.with_header(name, value);
        }
        Ok(reply.with_header(header::HeaderName::from_static(idempotency_key::REPLAYED), "true"))
    }
}

impl<T: JsonSchema + Serialize> Reply<Deleted, T> {
    /// An answer without a body.
    #[must_use]
    pub fn deleted() -> Self {
        let response = Response::builder().status(Deleted::STATUS).finish();
        Self { response, bytes: Bytes::new(), shape: PhantomData }
    }
}

/// The page of metrics.
#[derive(Debug)]
pub struct MetricsPage(pub Response);

impl IntoResponse for MetricsPage {
    fn into_response(self) -> Response {
        self.0
    }
}

impl ApiResponse for MetricsPage {
    fn meta() -> MetaResponses {
        let media_type = |exposition: Exposition| MetaMediaType {
            content_type: exposition.media_type(),
            schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))),
        };
        MetaResponses {
            responses: vec![MetaResponse {
                description: Answered::DESCRIPTION,
                status: Some(Answered::STATUS.as_u16()),
                status_range: None,
                content: [Exposition::OpenMetrics, Exposition::Prometheus].map(media_type).into(),
                headers: Vec::new(),
            }],
        }
    }

    fn register(_registry: &mut Registry) {}
}

impl<K, T> IntoResponse for Reply<K, T> {
    fn into_response(self) -> Response {
        self.response
    }
}

impl<K: AnswerKind, T: JsonSchema> ApiResponse for Reply<K, T> {
    fn meta() -> MetaResponses {
        let headers = || {
            K::HEADERS
                .iter()
                .map(|(name, description)| MetaHeader {
                    name: (*name).to_owned(),
                    description: Some((*description).to_owned()),
                    // An expanded firewall has no tag.
                    required: !K::CAN_BE_UNCHANGED
                        && ![PAGINATION.0, LINK.0, LEFT_OUT.0].contains(name),
                    deprecated: false,
                    schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))),
                })
                .collect::<Vec<_>>()
        };
        let content = if K::HAS_BODY {
            let json = MetaMediaType { content_type: JSON, schema: reference::<T>() };
            let lines = K::LINES.iter().map(|(format, about)| described(*format, about));
            let documents =
                K::DOCUMENTS.iter().map(|(media_type, about)| document(media_type, about));
            std::iter::once(json).chain(lines).chain(documents).collect()
        } else {
            Vec::new()
        };
        let mut responses = vec![MetaResponse {
            description: K::DESCRIPTION,
            status: Some(K::STATUS.as_u16()),
            status_range: None,
            content,
            headers: headers(),
        }];
        if K::CAN_BE_UNCHANGED {
            responses.push(MetaResponse {
                description: "The state that `If-None-Match` names is unchanged",
                status: Some(StatusCode::NOT_MODIFIED.as_u16()),
                status_range: None,
                content: Vec::new(),
                headers: Vec::new(),
            });
        }
        if K::CAN_BE_UNDER_WAY {
            let header = |(name, description): &(&str, &str)| MetaHeader {
                name: (*name).to_owned(),
                description: Some((*description).to_owned()),
                required: true,
                deprecated: false,
                schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))),
            };
            responses.push(MetaResponse {
                description: "The answer is being computed",
                status: Some(StatusCode::ACCEPTED.as_u16()),
                status_range: None,
                content: Vec::new(),
                headers: UNDER_WAY.iter().map(header).collect(),
            });
        }
        MetaResponses { responses }
    }

    fn register(registry: &mut Registry) {
        register::<T>(registry);
    }
}

/// A body of another media type, for the description.
fn document(media_type: &'static str, about: &'static str) -> MetaMediaType {
    let text = MetaSchema { description: Some(about), ..MetaSchema::new("object") };
    MetaMediaType { content_type: media_type, schema: MetaSchemaRef::Inline(Box::new(text)) }
}
