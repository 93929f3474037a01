//! Request bodies: the schema of one type, our own reading.

use std::marker::PhantomData;

use fireflow_domain::error::Violations;
use poem::http::header;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde_json::Value;

use super::json;
use crate::problem::{Code, Problem};
use crate::reply::JSON;

/// JSON Merge Patch (RFC 7396).
pub const MERGE_PATCH: &str = "application/merge-patch+json";
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
        let bytes = take_bytes(request, body).await?;
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
        let bytes = take_bytes(request, body).await?;
        Ok(Self { bytes, schema: PhantomData })
    }
}

async fn take_bytes(request: &Request, body: &mut RequestBody) -> poem::Result<bytes::Bytes> {
    check_media_type(request)?;
    let bytes = body.take()?.into_bytes().await.map_err(|error| {
        Problem::new(Code::MalformedRequest, format!("the body cannot be read: {error}"))
    })?;
    Ok(bytes)
}

/// JSON, and for a change also its own media type.
fn check_media_type(request: &Request) -> Result<(), Problem> {
    let takes_patches = request.method() == poem::http::Method::PATCH;
    let refused = |given: &str| {
        let taken = if takes_patches {
            format!("`{MERGE_PATCH}` or `{JSON}`")
        } else {
            format!("`{JSON}`")
        };
        let detail = format!("the body must be {taken}, {given}");
        let accept = if takes_patches {
            header::HeaderName::from_static("accept-patch")
        } else {
            header::ACCEPT
        };
        let value = if takes_patches { format!("{MERGE_PATCH}, {JSON}") } else { JSON.to_owned() };
        Problem::new(Code::UnsupportedMediaType, detail).with_header(accept, value)
    };
    let Some(given) = request.content_type() else {
        return Err(refused("and say so in `Content-Type`"));
    };
    let essence = given.split(';').next().unwrap_or_default().trim();
    let is_taken = essence.eq_ignore_ascii_case(JSON)
        || (takes_patches && essence.eq_ignore_ascii_case(MERGE_PATCH));
    if is_taken {
        Ok(())
    } else {
        let given = fireflow_domain::text::excerpt(given);
        Err(refused(&format!("not `{given}`")))
    }
}
