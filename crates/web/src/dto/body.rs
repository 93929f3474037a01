//! Request bodies: the schema of one type, our own reading.

use std::marker::PhantomData;

use fireflow_domain::error::Violations;
use poem::http::header;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde_json::Value;

use super::inspection::PacketBody;
use super::json;
use crate::problem::{Code, Problem};
use crate::reply::JSON;

/// JSON Merge Patch (RFC 7396).
pub const MERGE_PATCH: &str = "application/merge-patch+json";
/// NDJSON, by its two names.
pub const NDJSON: [&str; 2] = ["application/x-ndjson", "application/ndjson"];
/// Above this many bytes a body is decoded where it holds up no other request.
const DECODED_INLINE_BYTES: usize = 256 * 1024;

/// A JSON body whose schema is that of `T`. What it says is read by the operation, which knows the
/// path that the body must not contradict.
#[derive(Debug)]
pub struct Body<T> {
    value: Value,
    schema: PhantomData<fn() -> T>,
}

impl<T> Body<T> {
    /// Reads the body, and tells all that is wrong with it.
    ///
    /// # Errors
    /// The violations.
    pub fn read<U>(
        self,
        read: impl FnOnce(Value, &mut Violations) -> Option<U>,
    ) -> Result<U, Problem> {
        let mut violations = Violations::new();
        let value = read(self.value, &mut violations);
        match value {
            Some(value) if violations.is_empty() => Ok(value),
            _ => Err(Problem::invalid(&violations)),
        }
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
        let bytes = take_bytes(request, body, &taken(request)).await?;
        let parsed = if bytes.len() > DECODED_INLINE_BYTES {
            tokio::task::spawn_blocking(move || json::parse(&bytes))
                .await
                .map_err(Problem::internal)?
        } else {
            json::parse(&bytes)
        };
        let value = parsed.map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))?;
        Ok(Self { value, schema: PhantomData })
    }
}

/// A JSON body that may be left out.
#[derive(Debug)]
pub struct OptionalBody<T>(Option<Body<T>>);

impl<T> OptionalBody<T> {
    /// Reads the body, and tells all that is wrong with it; what is left out is the default.
    ///
    /// # Errors
    /// The violations.
    pub fn read<U: Default>(
        self,
        read: impl FnOnce(Value, &mut Violations) -> Option<U>,
    ) -> Result<U, Problem> {
        self.0.map_or_else(|| Ok(U::default()), |body| body.read(read))
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
        options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let bytes = read_bytes(body).await?;
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        let mut body = RequestBody::new(bytes.into());
        Ok(Self(Some(Body::from_request(request, &mut body, options).await?)))
    }
}

/// A JSON body whose schema is that of `T`, as it came: for what is read piece by piece.
#[derive(Debug)]
pub struct RawBody<T> {
    /// The bytes.
    pub bytes: bytes::Bytes,
    schema: PhantomData<fn() -> T>,
}

impl<'a, T: Type> ApiExtractor<'a> for RawBody<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Body::<T>::request_meta()
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let bytes = take_bytes(request, body, &taken(request)).await?;
        Ok(Self { bytes, schema: PhantomData })
    }
}

async fn take_bytes(
    request: &Request,
    body: &mut RequestBody,
    taken: &[&str],
) -> poem::Result<bytes::Bytes> {
    check_media_type(request, taken)?;
    read_bytes(body).await
}

async fn read_bytes(body: &mut RequestBody) -> poem::Result<bytes::Bytes> {
    let bytes = body.take()?.into_bytes().await.map_err(|error| {
        Problem::new(Code::MalformedRequest, format!("the body cannot be read: {error}"))
    })?;
    Ok(bytes)
}

/// Whether a request's body is NDJSON.
#[must_use]
pub fn is_ndjson(request: &Request) -> bool {
    let essence = request.content_type().map(essence).unwrap_or_default();
    NDJSON.iter().any(|it| essence.eq_ignore_ascii_case(it))
}

fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// JSON, and for a change also its own media type.
fn taken(request: &Request) -> Vec<&'static str> {
    if request.method() == poem::http::Method::PATCH { vec![MERGE_PATCH, JSON] } else { vec![JSON] }
}

fn check_media_type(request: &Request, taken: &[&str]) -> Result<(), Problem> {
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
        return Err(refused("and say so in `Content-Type`"));
    };
    if taken.iter().any(|it| essence(given).eq_ignore_ascii_case(it)) {
        Ok(())
    } else {
        let given = fireflow_domain::text::excerpt(given);
        Err(refused(&format!("not `{given}`")))
    }
}

/// Packets: an array in JSON, or lines of which each is one.
#[derive(Debug)]
pub enum PacketsBody {
    /// An array, read.
    Array(Body<Vec<PacketBody>>),
    /// Lines, which have not been read yet.
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
        Body::<Vec<PacketBody>>::request_meta()
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        if is_ndjson(request) {
            return Ok(Self::Lines(body.take()?));
        }
        check_media_type(request, &[JSON, NDJSON[0]])?;
        Ok(Self::Array(Body::from_request(request, body, options).await?))
    }
}
