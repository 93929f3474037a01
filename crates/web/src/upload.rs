//! Bodies of requests. They are read last, after the client is authenticated and authorized, and
//! once there is memory for the body and its decoded form.
//!
//! The steps are: check the head (media type, encoding, declared length); borrow memory for the
//! body and its decoded form; read the body, with a timeout for each piece; admit the request;
//! decode the body, on a separate thread if it is large.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use fireflow_auth::Refusal;
use fireflow_formats::json::Meter;
use fireflow_service::budget::{Reservation, Use};
use futures_util::StreamExt;
use poem::http::{HeaderMap, header};
use poem::{Request, RequestBody};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::app::Context;
use crate::problem::{Code, Problem};

/// The largest body that the thread serving the request decodes itself, in bytes.
const DECODED_INLINE_BYTES: usize = 64 * 1024;
/// The length that is assumed at first for a body without a declared length. If the body is longer,
/// the memory for the longest body is borrowed until the whole body has arrived.
const FIRST_BYTES: usize = 64 * 1024;
/// The most memory of one JSON value at once, in bytes: more than any schema can hold. A rule with
/// the maximum of 1,000 sources, destinations and ports takes 2 MB.
const MAX_VALUE_BYTES: u64 = 32 * 1024 * 1024;
/// The most memory that a JSON value may take per byte of its text. Larger values are not decoded:
/// in `{"":{"":…`, a byte of text takes 120 bytes in memory. Ports (`{"number":1},`) take 52.
const VALUE_PER_BYTE: u64 = 64;
/// The additional memory that is allowed for short texts.
const VALUE_BESIDES: u64 = 64 * 1024;
/// The memory that a whole rule set takes until it is stored, per byte of its text. A set of 20,000
/// short rules took 17; the rest is in reserve.
const RULE_SET_PER_BYTE: u64 = 24;

/// A body that has not been read yet.
pub struct Upload {
    body: poem::Body,
    context: Context,
    declared: Option<usize>,
    max: usize,
    purpose: Use,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("declared", &self.declared).finish_non_exhaustive()
    }
}

/// The context of a request with a valid token.
fn context(request: &Request) -> Result<Context, Problem> {
    request.extensions().get().cloned().ok_or_else(|| Refusal::Missing.into())
}

/// Whether a request's head declares a body. Over HTTP/2, a body need not be declared.
#[must_use]
pub fn declares_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}

/// Refuses compressed bodies, because a small one could unpack to any size.
///
/// # Errors
/// Returns 415.
pub fn check_encoding(request: &Request) -> Result<(), Problem> {
    match request.headers().get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let detail = "compressed bodies are not supported; leave `Content-Encoding` out";
            Err(Problem::new(Code::UnsupportedMediaType, detail))
        }
        _ => Ok(()),
    }
}

impl Upload {
    /// Takes a request's body, and checks what the headers declare about it.
    ///
    /// # Errors
    /// Returns 415 if the body is compressed, 413 if its declared length exceeds the limit.
    pub fn open(request: &Request, body: &mut RequestBody) -> poem::Result<Self> {
        check_encoding(request)?;
        let context = context(request)?;
        let purpose = context.operation.map_or(Use::Body, |operation| operation.body);
        let limits = &context.work.limits;
        let max = match purpose {
            Use::RuleSet => limits.max_rule_set_bytes,
            _ => limits.max_body_bytes,
        };
        let declared = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok())
            .and_then(|length| length.parse::<usize>().ok());
        let upload = Self { body: body.take()?, context, declared, max, purpose };
        if declared.is_some_and(|length| length > max) {
            return Err(upload.too_large().into());
        }
        Ok(upload)
    }

    fn too_large(&self) -> Problem {
        let detail = format!("the body is limited to {} bytes; send it in parts", self.max);
        Problem::new(Code::TooLarge, detail)
    }

    /// The memory of a body with this many bytes, including its decoded form.
    fn estimate(&self, bytes: usize) -> u64 {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let value = max_value_bytes(bytes);
        let decoded = match self.purpose {
            Use::RuleSet => value.saturating_add(bytes.saturating_mul(RULE_SET_PER_BYTE)),
            _ => value,
        };
        bytes.saturating_add(decoded)
    }

    /// Reads the whole body.
    async fn receive(mut self) -> Result<Received, Problem> {
        let first = self.declared.unwrap_or(FIRST_BYTES);
        let (subject, budget) = (&self.context.caller.actor.subject, &self.context.backend.budget);
        let mut memory = budget.reserve(subject, self.purpose, self.estimate(first)).await?;
        let idempotent = self.context.idempotent.clone();
        let mut hash = idempotent.as_ref().map(|_| Sha256::new());
        let stall = self.context.work.limits.body_stall;
        let mut expected = first;
        let mut bytes = BytesMut::with_capacity(first);
        let mut pieces = std::mem::take(&mut self.body).into_bytes_stream();
        loop {
            let piece = timeout(stall, pieces.next()).await.map_err(|_| {
                let detail = format!(
                    "the body stopped: no data arrived for {} s; send the request again",
                    stall.as_secs()
                );
                Problem::new(Code::RequestTimeout, detail)
            })?;
            let piece = match piece {
                None => break,
                Some(Ok(piece)) => piece,
                Some(Err(error)) => {
                    let detail = "the request body ended unexpectedly";
                    let problem = Problem::new(Code::MalformedRequest, detail);
                    return Err(Problem { source: Some(error.into()), ..problem });
                }
            };
            let length = bytes.len().saturating_add(piece.len());
            if length > self.max {
                return Err(self.too_large());
            }
            if length > expected {
                // Release everything and borrow for the largest body at once. Otherwise several
                // bodies that each hold a part and wait for more would wait for each other. The
                // bytes received so far are few.
                memory.shrink_to(0);
                expected = self.max;
                memory = budget.reserve(subject, self.purpose, self.estimate(expected)).await?;
            }
            if let Some(hash) = &mut hash {
                hash.update(&piece);
            }
            bytes.extend_from_slice(&piece);
        }
        if let Some((request, hash)) = idempotent.zip(hash) {
            request.set_body(hash.finalize().into());
        }
        memory.shrink_to(self.estimate(bytes.len()));
        self.context.work.admit()?;
        Ok(Received { bytes: bytes.freeze(), memory, context: self.context })
    }

    /// Reads the whole body and decodes it. A body above 64 KiB is decoded on a separate thread,
    /// for which subjects take turns, and only as long as the client waits. The borrowed memory is
    /// held until the request is answered.
    ///
    /// # Errors
    /// Returns the errors of `decode`; 400 if the body ends unexpectedly, 408 if it stalls, 413 if
    /// it is too long, or 503 if the service is too busy.
    pub async fn decode<T: Send + 'static, E: Into<Problem> + 'static>(
        self,
        decode: impl FnOnce(&[u8], &Meter) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Problem> {
        let Received { bytes, memory, context } = self.receive().await?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let run = move |awaited: Option<Arc<AtomicBool>>| {
            let meter = Meter::new(max_value_bytes(length), awaited);
            let decoded = decode(&bytes, &meter);
            drop(bytes);
            meter.check().map_err(Problem::from).and(decoded.map_err(E::into))
        };
        if length <= DECODED_INLINE_BYTES as u64 {
            context.work.hold(memory);
            return run(None);
        }
        let subject = &context.caller.actor.subject;
        let turn = context.backend.turns.reserve(subject, Use::Body, 1).await?;
        let awaited = Awaited(Arc::new(AtomicBool::new(true)));
        let flag = Arc::clone(&awaited.0);
        let (decoded, memory) = tokio::task::spawn_blocking(move || {
            let decoded = run(Some(flag));
            drop(turn);
            // If nobody waits any more, the reservation is dropped after the decoded value.
            (decoded, memory)
        })
        .await
        .map_err(Problem::internal)?;
        context.work.hold(memory);
        decoded
    }
}

/// The most memory that the JSON value of a text may take at once, in bytes.
fn max_value_bytes(text: u64) -> u64 {
    text.saturating_mul(VALUE_PER_BYTE).saturating_add(VALUE_BESIDES).min(MAX_VALUE_BYTES)
}

/// A body that has been received.
struct Received {
    bytes: Bytes,
    memory: Reservation,
    context: Context,
}

/// Clears the flag when it is dropped, because nobody waits for the body any more.
struct Awaited(Arc<AtomicBool>);

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
