//! Bodies of requests: read last of all, once it is known who sends them, that they may, and that
//! there is room for what they become.
//!
//! In this order: the head is judged (media type, encoding, declared length); memory is borrowed for
//! the body and its decoded form; the body is read, within a time for each piece; the request gets
//! its permit to be served; the body is decoded, if it is large on a thread that serves nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use fireflow_auth::Refusal;
use fireflow_formats::json::Meter;
use fireflow_service::budget::{Reservation, Use};
use futures_util::StreamExt;
use poem::http::{Method, header};
use poem::{Request, RequestBody};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::app::Context;
use crate::problem::{Code, Problem};

/// Up to this many bytes a body is decoded by the thread that serves the request.
const DECODED_INLINE_BYTES: usize = 64 * 1024;
/// What is borrowed at first for a body that does not say how long it is; a longer one counts as the
/// longest until it is there.
const FIRST_BYTES: usize = 64 * 1024;
/// The most of a JSON value that is in memory at once, in bytes: more than any schema can hold. A rule
/// with all of its 1,000 sources, destinations and ports takes 2 MB.
const MAX_VALUE_BYTES: u64 = 32 * 1024 * 1024;
/// How much larger a JSON value is in memory than its text, at most: what is beyond this (in
/// `{"":{"":…` a byte of text makes 120 in memory) is not decoded. Ports (`{"number":1},`) make 52.
const VALUE_PER_BYTE: u64 = 64;
/// What a short text may become besides.
const VALUE_BESIDES: u64 = 64 * 1024;
/// How much memory a whole rule set takes until it is stored, for each byte of its text: one set of
/// 20,000 short rules took 17, the rest is in reserve.
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

/// The context of a request whose token was checked.
fn context(request: &Request) -> Result<Context, Problem> {
    request.extensions().get().cloned().ok_or_else(|| Refusal::Missing.into())
}

/// Refuses compressed bodies: a small one could unpack to any size.
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
    /// Takes a request's body, and judges what its head says of it.
    ///
    /// # Errors
    /// Returns 415 if it is compressed, 413 if it says that it is too long.
    pub fn open(request: &Request, body: &mut RequestBody) -> poem::Result<Self> {
        check_encoding(request)?;
        let context = context(request)?;
        // Only whole rule sets are put.
        let is_set =
            request.method() == Method::PUT || request.uri().path().ends_with("/rules/batch");
        let limits = &context.work.limits;
        let (max, purpose) = if is_set {
            (limits.max_rule_set_bytes, Use::RuleSet)
        } else {
            (limits.max_body_bytes, Use::Body)
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

    /// What a body of so many bytes takes with what it becomes.
    fn estimate(&self, bytes: usize) -> u64 {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let value = max_value_bytes(bytes);
        let decoded = match self.purpose {
            Use::RuleSet => value.saturating_add(bytes.saturating_mul(RULE_SET_PER_BYTE)),
            _ => value,
        };
        bytes.saturating_add(decoded)
    }

    /// Reads all of it.
    async fn receive(mut self) -> Result<Received, Problem> {
        let first = self.declared.unwrap_or(FIRST_BYTES);
        let (subject, budget) = (&self.context.caller.actor.subject, &self.context.app.budget);
        let mut memory = budget.reserve(subject, self.purpose, self.estimate(first)).await?;
        let once = self.context.once.clone();
        let mut hash = once.as_ref().map(|_| Sha256::new());
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
                // All that it can be, at once: several that hold a part each, and wait for more,
                // would wait for each other. What has come is little.
                memory.shrink_to(0);
                expected = self.max;
                memory = budget.reserve(subject, self.purpose, self.estimate(expected)).await?;
            }
            if let Some(hash) = &mut hash {
                hash.update(&piece);
            }
            bytes.extend_from_slice(&piece);
        }
        if let Some((once, hash)) = once.zip(hash) {
            once.set_body(hash.finalize().into());
        }
        memory.shrink_to(self.estimate(bytes.len()));
        self.context.work.admit()?;
        Ok(Received { bytes: bytes.freeze(), memory, context: self.context })
    }

    /// Reads all of it, and decodes it: above 64 KiB on a thread of its own, of which a subject has a
    /// part, and for no longer than the request is waited for. What was borrowed for it is held
    /// until the request is answered.
    ///
    /// # Errors
    /// Returns what `decode` does; 400, 408, 413 or 503 if the body does not come to its end in time,
    /// is too long, or there is no room for it.
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
        let turn = context.app.turns.reserve(subject, Use::Body, 1).await?;
        let awaited = Awaited(Arc::new(AtomicBool::new(true)));
        let flag = Arc::clone(&awaited.0);
        let (decoded, memory) = tokio::task::spawn_blocking(move || {
            let decoded = run(Some(flag));
            drop(turn);
            // If nobody waits any more, it goes when what was decoded has gone.
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

/// A body that is there.
struct Received {
    bytes: Bytes,
    memory: Reservation,
    context: Context,
}

/// Says, when it is dropped, that nobody waits any more.
struct Awaited(Arc<AtomicBool>);

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
