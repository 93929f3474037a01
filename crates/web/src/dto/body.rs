//! Request bodies with the schema of a type, but our own reader. A body is received only once the
//! operation needs its content.

use std::marker::PhantomData;

use fireflow_domain::error::Violations;
use fireflow_formats::json::Meter;
use fireflow_formats::members::read_json;
use fireflow_formats::packet::MAX_PACKETS;
use fireflow_formats::rule_export::LineFormat;
use poem::http::header;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde_json::Value;

use super::inspection::PacketBody;
use super::lines::described;
use crate::problem::{Code, Problem};
use crate::reply::JSON;
use crate::upload::{Upload, check_encoding};

/// JSON Merge Patch (RFC 7396).
pub const MERGE_PATCH: &str = "application/merge-patch+json";
/// NDJSON, under its two names.
pub const NDJSON: [&str; 2] = ["application/x-ndjson", "application/ndjson"];

/// A JSON body with the schema of `T`, not received yet. The operation reads it, because the body
/// must not contradict the path, which the operation knows.
#[derive(Debug)]
pub struct Body<T> {
    upload: Upload,
    schema: PhantomData<fn() -> T>,
}

impl<T> Body<T> {
    /// Receives and reads the body, and reports all its faults.
    ///
    /// # Errors
    /// Returns the violations, or why the body was not received (see [`Upload::decode`]).
    pub async fn read<U: Send + 'static>(
        self,
        read: impl FnOnce(Value, &mut Violations) -> Option<U> + Send + 'static,
    ) -> Result<U, Problem> {
        self.decode(move |bytes, meter| read_json(bytes, meter, read)).await
    }

    /// Receives the body, and decodes it piece by piece.
    ///
    /// # Errors
    /// Returns what `decode` does, or why the body was not received (see [`Upload::decode`]).
    pub async fn decode<U: Send + 'static, E: Into<Problem> + 'static>(
        self,
        decode: impl FnOnce(&[u8], &Meter) -> Result<U, E> + Send + 'static,
    ) -> Result<U, Problem> {
        self.upload.decode(decode).await
    }
}

impl<'a, T: Type> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType { content_type: JSON, schema: T::schema_ref() }],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        check_media_type(request, &taken(request))?;
        Ok(Self { upload: Upload::open(request, body)?, schema: PhantomData })
    }
}

/// A JSON body that may be omitted.
#[derive(Debug)]
pub struct OptionalBody<T> {
    body: Body<T>,
    /// The fault of its media type, which is reported only if there is a body.
    refusal: Option<Problem>,
}

impl<T> OptionalBody<T> {
    /// Receives and reads the body, and reports all its faults. An omitted body is the default.
    ///
    /// # Errors
    /// Returns the violations, or why the body was not received (see [`Upload::decode`]).
    pub async fn read<U: Default + Send + 'static>(
        self,
        read: impl FnOnce(Value, &mut Violations) -> Option<U> + Send + 'static,
    ) -> Result<U, Problem> {
        let Self { body, refusal } = self;
        body.decode(move |bytes, meter| {
            if bytes.is_empty() {
                return Ok(U::default());
            }
            refusal.map_or(Ok(()), Err)?;
            read_json(bytes, meter, read).map_err(Problem::from)
        })
        .await
    }
}

impl<'a, T: Type> ApiExtractor<'a> for OptionalBody<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Body::<T>::request_meta().map(|meta| MetaRequest { required: false, ..meta })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let refusal = check_media_type(request, &taken(request)).err();
        let body = Body { upload: Upload::open(request, body)?, schema: PhantomData };
        Ok(Self { body, refusal })
    }
}

/// Whether a request's body is NDJSON.
#[must_use]
pub fn is_ndjson(request: &Request) -> bool {
    let essence = request.content_type().map(essence).unwrap_or_default();
    NDJSON.iter().any(|it| essence.eq_ignore_ascii_case(it))
}

/// A media type without its parameters.
pub(super) fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// The accepted media types: JSON, and for PATCH also merge patch.
fn taken(request: &Request) -> Vec<&'static str> {
    if request.method() == poem::http::Method::PATCH { vec![MERGE_PATCH, JSON] } else { vec![JSON] }
}

/// Checks that a request's body has one of some media types.
///
/// # Errors
/// Returns 415 for another media type, or if there is none.
pub(super) fn check_media_type(request: &Request, taken: &[&str]) -> Result<(), Problem> {
    let refused = |given: &str| {
        let names: Vec<String> = taken.iter().map(|it| format!("`{it}`")).collect();
        let detail = format!("the body must be {}, {given}", names.join(" or "));
        let accept = if request.method() == poem::http::Method::PATCH {
            header::HeaderName::from_static("accept-patch")
        } else {
            header::ACCEPT
        };
        Problem::new(Code::UnsupportedMediaType, detail).with_header(accept, taken.join(", "))
    };
    let Some(given) = request.content_type() else {
        return Err(refused("and `Content-Type` must name it"));
    };
    if taken.iter().any(|it| essence(given).eq_ignore_ascii_case(it)) {
        Ok(())
    } else {
        let given = fireflow_domain::text::excerpt(given);
        Err(refused(&format!("not `{given}`")))
    }
}

/// Packets: a JSON array, or lines with one packet each.
#[derive(Debug)]
pub enum PacketsBody {
    /// An array, not received yet.
    Array(Box<Body<Vec<PacketBody>>>),
    /// Lines, not received yet.
    Lines(poem::Body),
}

impl<'a> ApiExtractor<'a> for PacketsBody {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        Body::<Vec<PacketBody>>::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let packet = Box::new(PacketBody::schema_ref());
        let packets = MetaSchema {
            items: Some(packet),
            max_items: Some(MAX_PACKETS),
            ..MetaSchema::new("array")
        };
        let schema = MetaSchemaRef::Inline(Box::new(packets));
        let content = vec![
            MetaMediaType { content_type: JSON, schema },
            described(
                LineFormat::Ndjson,
                "One packet per line, each as in the array; any number of them",
            ),
        ];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        if is_ndjson(request) {
            check_encoding(request)?;
            return Ok(Self::Lines(body.take()?));
        }
        check_media_type(request, &[JSON, NDJSON[0]])?;
        Ok(Self::Array(Box::new(Body::from_request(request, body, options).await?)))
    }
}
