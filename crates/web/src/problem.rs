//! The single format of all errors: RFC 9457, `application/problem+json`.

use std::fmt;

use fireflow_domain::error::{BoxError, Conflict, Error, Outage, Violation, Violations};
use fireflow_domain::text::excerpt;
use fireflow_domain::time::MICROS_PER_SECOND;
use fireflow_formats::fault::{ReadError, WrittenViolation, summary};
use fireflow_formats::query::ListError;
use fireflow_service::budget::Shortage;
use fireflow_service::error::ServiceError;
use fireflow_service::rates::RateExceeded;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiResponse, Object};
use serde::Serialize;

/// The media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The `Retry-After` for data that a newer version wrote, in seconds. During a rolling deployment,
/// another process may have that version.
const NEWER_RETRY_S: i64 = 10;

macro_rules! codes {
    ($($variant:ident = $word:literal, $status:ident, $title:literal, $advice:literal;)+) => {
        /// The kind of error, in one word of a closed list. Clients branch on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $title] $variant,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Its HTTP status.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),+ }
            }

            /// A short summary for people.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }

            /// What a client can do about it.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice),+ }
            }
        }
    };
}

codes! {
    MalformedRequest = "malformed_request", BAD_REQUEST, "The request cannot be read",
        "Correct the syntax or the encoding of the request; FireFlow could not read it.";
    MalformedJson = "malformed_json", BAD_REQUEST, "The body is not valid JSON",
        "`detail` gives the line and column. Numbers must be finite, and no member may occur twice in an object.";
    Unauthenticated = "unauthenticated", UNAUTHORIZED, "A valid token is required",
        "Send `Authorization: Bearer …`; `WWW-Authenticate` explains why a token was refused.";
    Forbidden = "forbidden", FORBIDDEN, "The token's roles are not sufficient",
        "`detail` names the required role. Use a token that has it.";
    NotFound = "not_found", NOT_FOUND, "The resource does not exist",
        "It does not exist, was deleted, or belongs to a tenant that the token does not include.";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The method is not allowed",
        "`Allow` lists the methods that the path has.";
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, "The request body did not arrive in time",
        "Nothing was changed. Send the body without pauses.";
    NameTaken = "name_taken", CONFLICT, "The name is taken",
        "`existing_id` is the resource with this name. Use that resource, or another name.";
    EqualRule = "equal_rule", CONFLICT, "An equivalent rule already exists",
        "`existing_id` is the equivalent rule. To keep both, send `duplicates=keep`.";
    StateMoved = "state_moved", CONFLICT, "The policy has changed",
        "`detail` explains what has changed. Start the pages of an analysis again without a cursor; look at the finding again before you accept it.";
    RevisionMismatch = "revision_mismatch", PRECONDITION_FAILED, "The resource has changed since you read it",
        "Read it again, apply your change to the current state, and send the new tag.";
    WeakTag = "weak_tag", PRECONDITION_FAILED, "A weak tag cannot be used for a change",
        "Send the `ETag` as FireFlow returned it. A proxy weakened it (`W/`): see \"Behind a proxy\" in the API documentation.";
    UnknownTag = "unknown_tag", PRECONDITION_FAILED, "The tag belongs to another resource",
        "Send the `ETag` of a GET of the same resource. Tags of other resources or other services are never accepted.";
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, "Too large",
        "`detail` gives the limit and the alternative: smaller pages, parts, or lists with pages.";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "Unsupported media type",
        "Send `application/json` (or `application/merge-patch+json` with PATCH), uncompressed.";
    Invalid = "invalid", UNPROCESSABLE_ENTITY, "The request is not valid",
        "`errors` lists everything that is wrong, each with its location and what would be right.";
    Partial = "partial", UNPROCESSABLE_ENTITY, "The body is only part of a list",
        "Read all rules as NDJSON or CSV, or all pages without `filter` and `fields`, and send those: rules that are missing from the body would be deleted.";
    DeletionCountRequired = "deletion_count_required", PRECONDITION_REQUIRED, "The number of deletions must be stated",
        "`detail` gives the number and the first rules. To delete them, repeat the request with this number as `max_deletions`.";
    BadCursor = "bad_cursor", UNPROCESSABLE_ENTITY, "The cursor belongs to another list",
        "Start again with an empty cursor. A cursor belongs to one list, filter and order.";
    KeyReused = "key_reused", UNPROCESSABLE_ENTITY, "The Idempotency-Key was used for another request",
        "Send each new request with a new key. A key repeats only the same request, with a token that has the same access.";
    TooExpensive = "too_expensive", UNPROCESSABLE_ENTITY, "The list takes too long to compute",
        "Narrow the filter with an address, a port, a name, a label or a time that few resources have.";
    TooManyRequests = "too_many_requests", TOO_MANY_REQUESTS, "Too many requests",
        "Wait for `Retry-After` seconds. Send fewer, larger requests: batches, pages of 1,000, NDJSON.";
    Internal = "internal", INTERNAL_SERVER_ERROR, "A defect in FireFlow",
        "Report it with the `instance`: the log has the cause under this id.";
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "Temporarily unavailable",
        "Nothing was changed. Try again after `Retry-After` seconds.";
    AnalysisPending = "analysis_pending", SERVICE_UNAVAILABLE, "The analysis of the policy is not finished",
        "Try again after `Retry-After` seconds. If the analysis is still running, it continues for up to 60 seconds. If it cannot finish within its limits, `GET …/analysis/` names what is undecided.";
    NewerPolicy = "newer_policy", SERVICE_UNAVAILABLE, "A newer version is required to read the policy",
        "Send the request to a process of the version that wrote the policy, or update this one. Lists across policies leave the policy out and name it in `left_out`.";
    OutcomeUnknown = "outcome_unknown", SERVICE_UNAVAILABLE, "It is unknown whether the change was saved",
        "The connection to the database was lost during the commit. Read the resource before you repeat a write, or repeat it with the same `Idempotency-Key`.";
    Timeout = "timeout", SERVICE_UNAVAILABLE, "The request took too long",
        "Request less data, or try again after `Retry-After` seconds. Read the resource before you repeat a write: it may have been saved.";
}

/// One error in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object)]
#[oai(rename = "ProblemDetail", skip_serializing_if_is_none)]
pub struct ProblemDetail {
    /// The location in the body, as a JSON pointer in URI form (RFC 6901): `#/sources/0/address`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// The query parameter or header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The kind of error, if it differs from that of the problem: one of the same codes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The location of the other part of the body, if two parts conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflicts_with: Option<String>,
    /// The id of the stored resource that conflicts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing_id: Option<i64>,
    /// The error, and what would be right.
    pub detail: String,
}

impl ProblemDetail {
    /// A fault without a place and with the problem's code.
    #[must_use]
    pub const fn new(detail: String) -> Self {
        Self {
            pointer: None,
            parameter: None,
            code: None,
            conflicts_with: None,
            existing_id: None,
            detail,
        }
    }
}

impl From<&Violation> for ProblemDetail {
    fn from(violation: &Violation) -> Self {
        let written = WrittenViolation::from(violation);
        Self {
            pointer: written.pointer,
            parameter: written.parameter.map(str::to_owned),
            code: written.code.map(str::to_owned),
            conflicts_with: written.conflicts_with,
            existing_id: written.existing_id,
            detail: written.detail.to_owned(),
        }
    }
}

/// The body of every error (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object)]
#[oai(rename = "Problem", skip_serializing_if_is_none)]
pub struct ProblemBody {
    /// Identifies the kind of problem.
    #[serde(rename = "type")]
    #[oai(rename = "type")]
    pub kind: String,
    /// A short summary of the kind of problem.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The kind of problem in one word of a closed list: branch on this, never on text.
    pub code: String,
    /// A description of this occurrence.
    pub detail: String,
    /// The request's id, as in `X-Request-Id` and in the log.
    pub instance: String,
    /// The id of the resource that already exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing_id: Option<i64>,
    /// All errors in the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<ProblemDetail>>,
}

/// An error that becomes an answer.
#[derive(Debug)]
pub struct Problem {
    /// The kind of error.
    pub code: Code,
    /// A description for people.
    pub detail: String,
    /// All errors in the request.
    pub faults: Vec<ProblemDetail>,
    /// The id of the resource that already exists.
    pub existing_id: Option<i64>,
    /// Headers in addition to the body: `Retry-After`, `WWW-Authenticate`, `Allow`.
    pub headers: Vec<(header::HeaderName, String)>,
    /// The cause, which appears only in the log.
    pub source: Option<BoxError>,
}

impl Problem {
    /// A problem with a description.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            faults: Vec::new(),
            existing_id: None,
            headers: Vec::new(),
            source: None,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// A defect.
    pub fn internal(source: impl Into<BoxError>) -> Self {
        let detail = "an internal error occurred in FireFlow; the log has the cause under this id";
        Self { source: Some(source.into()), ..Self::new(Code::Internal, detail) }
    }

    /// An overload or an unreachable database; the client can retry the request.
    pub fn unavailable(code: Code, detail: impl Into<String>, retry_after_s: i64) -> Self {
        Self::new(code, detail).with_header(header::RETRY_AFTER, retry_after_s.max(1).to_string())
    }

    /// The violations of a well-formed request.
    #[must_use]
    pub fn invalid(violations: &Violations) -> Self {
        let faults = violations.items().iter().map(ProblemDetail::from).collect();
        Self { faults, ..Self::new(Code::Invalid, summary(violations)) }
    }

    /// The answer to the request with this id.
    #[must_use]
    pub fn response(&self, request_id: &str) -> Response {
        let body = ProblemBody {
            kind: format!("urn:fireflow:problem:{}", self.code.as_str()),
            title: self.code.title().to_owned(),
            status: self.code.status().as_u16(),
            code: self.code.as_str().to_owned(),
            detail: self.detail.clone(),
            instance: request_id.to_owned(),
            existing_id: self.existing_id,
            errors: (!self.faults.is_empty()).then(|| self.faults.clone()),
        };
        // Strings and numbers only, so serializing cannot fail.
        let bytes = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::builder()
            .status(self.code.status())
            .header(header::CACHE_CONTROL, "no-store")
            .content_type(PROBLEM_JSON)
            .body(bytes);
        for (name, value) in &self.headers {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

impl poem::error::ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.code.status()
    }

    fn as_response(&self) -> Response {
        self.response("")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.response("")
    }
}

impl From<Shortage> for Problem {
    fn from(shortage: Shortage) -> Self {
        Self::unavailable(Code::Unavailable, shortage.to_string(), shortage.retry_after_s)
    }
}

impl From<RateExceeded> for Problem {
    fn from(exceeded: RateExceeded) -> Self {
        Self::unavailable(Code::TooManyRequests, exceeded.to_string(), exceeded.retry_after_s)
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let busy = |detail: &str, seconds| Self::unavailable(Code::Unavailable, detail, seconds);
        match error {
            ServiceError::Domain(error) => error.into(),
            ServiceError::Shortage(shortage) => shortage.into(),
            ServiceError::AnalysisPending { detail, retry_after_s } => {
                Self::unavailable(Code::AnalysisPending, detail, retry_after_s)
            }
            ServiceError::TooManyRequests => {
                busy("too many requests are being served; try again", 1)
            }
            ServiceError::TooManyStreams => {
                busy("too many streams of packets are being inspected; try again", 5)
            }
            ServiceError::KeyReused => {
                let detail = "this `Idempotency-Key` was used for another request; send a new key";
                Self::new(Code::KeyReused, detail)
            }
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::MalformedJson(detail) => Self::new(Code::MalformedJson, detail),
            ReadError::MalformedText(detail) => Self::new(Code::MalformedRequest, detail),
            ReadError::Invalid(violations) => Self::invalid(&violations),
            ReadError::TooLarge(detail) => Self::new(Code::TooLarge, detail),
            ReadError::Partial(detail) => Self::new(Code::Partial, detail),
            ReadError::Abandoned => {
                Self::unavailable(Code::Timeout, "the request was abandoned", 1)
            }
        }
    }
}

impl From<Violations> for Problem {
    fn from(violations: Violations) -> Self {
        Self::invalid(&violations)
    }
}

impl From<ListError> for Problem {
    fn from(error: ListError) -> Self {
        match error {
            ListError::BadCursor(violations) => {
                Self { code: Code::BadCursor, ..Self::invalid(&violations) }
            }
            ListError::Invalid(violations) => violations.into(),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(violations) => Self::invalid(&violations),
            Error::NotFound { what, id } => Self::new(
                Code::NotFound,
                format!("A {what} with id={} was not found", excerpt(&id)),
            ),
            Error::AlreadyExists(conflict) => conflict.into(),
            Error::RevisionMismatch { what, current } => Self::new(
                Code::RevisionMismatch,
                format!(
                    "the {what} has changed since you read it: its revision is now {current}; read it again"
                ),
            ),
            Error::WeakTag { what } => Self::new(
                Code::WeakTag,
                format!(
                    "`If-Match` names weak tags (`W/\"…\"`), which cannot be used for a change (RFC 9110, \
                     13.1.1): a proxy that compresses responses may have weakened the tag of the \
                     {what}; send it as FireFlow returned it"
                ),
            ),
            Error::UnknownTag { what } => Self::new(
                Code::UnknownTag,
                format!(
                    "`If-Match` contains no tag of this {what}: send the `ETag` of a GET of it, \
                     unchanged"
                ),
            ),
            Error::StateExcluded { what, current } => Self::new(
                Code::RevisionMismatch,
                format!(
                    "`If-None-Match` excludes the current state of the {what}: its revision is \
                     {current}"
                ),
            ),
            Error::DeletionCountRequired { count, total, first } => {
                let named = first.join(", ");
                let others = count.saturating_sub(u64::try_from(first.len()).unwrap_or(u64::MAX));
                let others = if others > 0 { format!(" and {others} more") } else { String::new() };
                let detail = format!(
                    "the set leaves out {count} of the {total} rules of the policy ({named}{others}) \
                     and would delete them; to delete them, repeat the request with \
                     `max_deletions={count}`"
                );
                Self::new(Code::DeletionCountRequired, detail)
            }
            Error::Forbidden { needs } => Self::forbidden(needs),
            Error::TooLarge { what, limit, hint } => {
                Self::new(Code::TooLarge, format!("{what} is limited to {limit}; {hint}"))
            }
            Error::TooExpensive(source) => {
                let detail = "the list takes longer to compute than its time limit; narrow \
                              `filter` with a condition that few resources meet (an address, a \
                              port, a name, a label, a time), or omit the total with \
                              `with_total=false`";
                Self { source: Some(source), ..Self::new(Code::TooExpensive, detail) }
            }
            Error::Unavailable { outage, retry_after_micros, source } => {
                let seconds = retry_after_micros.div_euclid(MICROS_PER_SECOND);
                let detail = match outage {
                    Outage::Away => {
                        "the database is unreachable or overloaded; nothing was \
                                     changed"
                    }
                    Outage::ReadOnly => {
                        "the database is currently read-only; nothing was changed; reads still work"
                    }
                    Outage::Full => "the database's disk is full; nothing was changed",
                    Outage::NotMigrated => {
                        "migrations of this version are pending: run `fireflow migrate up`"
                    }
                    Outage::Damaged => {
                        "the database is damaged; nothing was changed. The log has the details; \
                         the operator may need to restore a backup"
                    }
                    Outage::Denied => {
                        "the database denies the service a permission that it needs; nothing was \
                         changed. The log has the details"
                    }
                };
                let problem = Self::unavailable(Code::Unavailable, detail, seconds);
                Self { source: Some(source), ..problem }
            }
            Error::NewerPolicy { policy } => Self::unavailable(
                Code::NewerPolicy,
                format!(
                    "a newer version of FireFlow wrote rules of the filtering policy with \
                     id={policy} that this version cannot read; send the request to a process of \
                     that version, or update this one"
                ),
                NEWER_RETRY_S,
            ),
            Error::Unsettled(source) => {
                let detail = "the connection to the database was lost during the commit; read the \
                              resource to see whether the change was saved";
                let problem = Self::unavailable(Code::OutcomeUnknown, detail, 1);
                Self { source: Some(source), ..problem }
            }
            Error::Internal(source) => Self::internal(source),
        }
    }
}

impl From<Conflict> for Problem {
    fn from(conflict: Conflict) -> Self {
        let (code, detail, holder) = match conflict {
            Conflict::NameTaken { what, name, holder } => (
                Code::NameTaken,
                format!("the {what} with id={holder} is already named `{}`", excerpt(&name)),
                holder,
            ),
            Conflict::EqualRule { holder, inactive } => {
                let state = inactive.map(|state| format!(" (which is {})", state.as_str()));
                let detail = format!(
                    "the firewall rule with id={holder}{} has the same action, protocols, sources, \
                     destinations and ports",
                    state.unwrap_or_default()
                );
                (Code::EqualRule, detail, holder)
            }
        };
        Self { existing_id: Some(holder), ..Self::new(code, detail) }
    }
}

impl Problem {
    /// The token lacks a role.
    #[must_use]
    pub fn forbidden(needs: fireflow_domain::actor::Role) -> Self {
        Self::new(Code::Forbidden, format!("this requires the role `{needs}`"))
    }
}

/// Refers to the schema in the API description.
struct ProblemPayload;

impl Payload for ProblemPayload {
    const CONTENT_TYPE: &'static str = PROBLEM_JSON;

    fn schema_ref() -> MetaSchemaRef {
        ProblemBody::schema_ref()
    }

    fn register(registry: &mut Registry) {
        ProblemBody::register(registry);
    }
}

impl ApiResponse for Problem {
    /// All statuses. The API description keeps those that an operation can return.
    fn meta() -> MetaResponses {
        let mut responses: Vec<MetaResponse> = Vec::new();
        for code in Code::ALL {
            let status = Some(code.status().as_u16());
            if responses.iter().any(|response| response.status == status) {
                continue;
            }
            responses.push(MetaResponse {
                description: code.title(),
                status,
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: ProblemPayload::CONTENT_TYPE,
                    schema: ProblemPayload::schema_ref(),
                }],
                headers: Vec::new(),
            });
        }
        MetaResponses { responses }
    }

    fn register(registry: &mut Registry) {
        ProblemPayload::register(registry);
    }
}

#[cfg(test)]
mod tests {
    use fireflow_formats::packet_lines::LineFaultCode;

    use super::*;

    #[test]
    fn the_words_for_violations_are_codes() {
        use fireflow_domain::error::ViolationCode as Word;
        let words = [
            (Word::NameTaken, Code::NameTaken),
            (Word::EqualRule, Code::EqualRule),
            (Word::RevisionMismatch, Code::RevisionMismatch),
            (Word::WeakTag, Code::WeakTag),
            (Word::UnknownTag, Code::UnknownTag),
            (Word::NotFound, Code::NotFound),
        ];
        for (word, code) in words {
            assert_eq!(word.as_str(), code.as_str());
        }
        for (word, code) in [
            (LineFaultCode::TooLarge, Code::TooLarge),
            (LineFaultCode::MalformedJson, Code::MalformedJson),
            (LineFaultCode::Invalid, Code::Invalid),
        ] {
            assert_eq!(word.as_str(), code.as_str());
        }
    }

    #[test]
    fn a_shortage_is_told_with_the_time_to_come_back() {
        let shortage = Shortage { what: "the memory for requests is in use", retry_after_s: 5 };
        let refused = Problem::from(shortage);
        assert_eq!(refused.code, Code::Unavailable);
        assert_eq!(refused.headers[0].1, "5");
        assert_eq!(refused.detail, "the memory for requests is in use; retry after 5 s");
    }
}
