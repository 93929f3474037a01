//! Streams of packets: packets are inspected as they arrive, and answered as the client reads,
//! against one state of the policy. The number of packets is unlimited. If the client does not read
//! its answers, no more packets are read, so memory does not grow with the stream.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use fireflow_domain::error::{BoxError, ErrorChain};
use fireflow_domain::usecase::inspect::InspectedPolicy;
use fireflow_formats::verdict_lines::VerdictLines;
use fireflow_service::budget::{Budget, Reservation, Use};
use fireflow_telemetry::request;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use poem::Body;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::app::Context;
use crate::pieces::{self, Pieces};
use crate::problem::{Code, Problem};

/// How many bytes of packets are answered at once. A piece consists of what has already arrived; a
/// full piece is not waited for. The answers to a piece exceed this size by at most one line.
const PIECE: usize = 128 * 1024;
/// The memory of a stream: a piece being collected, one being answered, its answers, and two pieces
/// of answers that wait to be sent.
const STREAM_BYTES: u64 = 1024 * 1024;
/// How many pieces of answers may wait to be sent.
const AHEAD: usize = 1;
/// The most concurrent streams per processor, and per subject.
const PER_PROCESSOR: usize = 32;
const PER_SUBJECT: usize = 16;
/// How long the head of the answer waits for the first packets. A client with the expectation
/// `100-continue` gets `100 Continue` when the service first reads packets.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The streams in progress.
#[derive(Debug)]
pub struct Streams {
    most: usize,
    /// The timeout for the next packets of a stream.
    patience: Duration,
    of_subjects: Arc<Mutex<HashMap<String, usize>>>,
    /// One permit per processor. Each piece takes one, so streams take turns, however many there
    /// are.
    processors: Semaphore,
}

/// A stream's share of the limits: it counts for its subject, and holds memory.
#[derive(Debug)]
pub struct Turn {
    of_subjects: Arc<Mutex<HashMap<String, usize>>>,
    subject: String,
    memory: Option<Reservation>,
}

impl Streams {
    /// Limits the streams to what this machine can answer. Each may wait for packets for the given
    /// time.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let most = processors.saturating_mul(PER_PROCESSOR);
        let processors = Semaphore::new(processors);
        Self { most, patience, of_subjects: Arc::default(), processors }
    }

    /// The number of streams in progress.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        let of_subjects = self.of_subjects.lock().unwrap_or_else(PoisonError::into_inner);
        of_subjects.values().sum::<usize>().try_into().unwrap_or(u64::MAX)
    }

    /// Reserves a stream and its memory.
    ///
    /// # Errors
    /// Returns 503 if there are too many streams in total or of this subject, or if there is no
    /// memory.
    pub async fn turn(&self, budget: &Budget, subject: &str) -> Result<Turn, Problem> {
        let mut turn = self.place(subject)?;
        turn.memory = Some(budget.reserve(subject, Use::Stream, STREAM_BYTES).await?);
        Ok(turn)
    }

    fn place(&self, subject: &str) -> Result<Turn, Problem> {
        let mut of_subjects = self.of_subjects.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = of_subjects.values().sum();
        let own = of_subjects.get(subject).copied().unwrap_or_default();
        if all >= self.most || own >= PER_SUBJECT {
            let detail = "too many streams of packets are being inspected; try again";
            return Err(Problem::unavailable(Code::Unavailable, detail, 5));
        }
        of_subjects.insert(subject.to_owned(), own + 1);
        let of_subjects = Arc::clone(&self.of_subjects);
        Ok(Turn { of_subjects, subject: subject.to_owned(), memory: None })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut of_subjects = self.of_subjects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = of_subjects.get_mut(&self.subject) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                of_subjects.remove(&self.subject);
            }
        }
    }
}

/// A stream in progress.
struct Stream {
    ctx: Context,
    packets: BoxStream<'static, io::Result<Bytes>>,
    /// Packets that have arrived and are not answered yet.
    pending: BytesMut,
    /// The packets that are answered next.
    piece: Bytes,
    /// How the packets ended, if they have ended.
    end: Option<io::Result<()>>,
    /// `None` while another thread answers a piece.
    lines: Option<VerdictLines>,
    /// Whether the stream was answered to its end.
    is_answered: bool,
    _turn: Turn,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.ctx.app.telemetry.metrics.stream_ended(self.is_answered);
    }
}

/// The answers to the packets of a body, written as the client reads them. If the body ends
/// prematurely, so do the answers.
pub async fn answers(ctx: &Context, inspected: InspectedPolicy, packets: Body, turn: Turn) -> Body {
    let mut stream = Stream {
        ctx: ctx.clone(),
        packets: packets.into_bytes_stream().boxed(),
        pending: BytesMut::new(),
        piece: Bytes::new(),
        end: None,
        lines: Some(VerdictLines::new(inspected)),
        is_answered: false,
        _turn: turn,
    };
    // Read packets now, whether any have arrived or not: a client with the expectation
    // `100-continue` begins to send only then.
    let _asked = timeout(FIRST_WAIT, stream.fill()).await.is_ok();
    let (pieces, body) = pieces::body(AHEAD);
    request::spawn(async move {
        let subject = stream.ctx.caller.actor.subject.clone();
        let result = stream.run(pieces).await;
        let lines = stream.lines.as_ref().map(VerdictLines::lines);
        let faults = stream.lines.as_ref().map(VerdictLines::faults);
        let cause = result.err().map(|cause| ErrorChain(&*cause).to_string());
        match cause {
            None => tracing::info!(%subject, lines, faults, "a stream of packets was answered"),
            Some(cause) => {
                tracing::warn!(%subject, lines, faults, %cause, "a stream of packets was interrupted");
            }
        }
    });
    body
}

impl Stream {
    async fn run(&mut self, pieces: Pieces) -> Result<(), BoxError> {
        loop {
            if self.piece.is_empty() {
                timeout(self.ctx.app.inspection_streams.patience, self.fill())
                    .await
                    .map_err(|_| "no packets arrived in time")?;
                self.piece = self.pending.split_to(PIECE.min(self.pending.len())).freeze();
            }
            let now = self.ctx.app.clock.now();
            if now >= self.ctx.expires_at {
                return Err("the token has expired".into());
            }
            let is_last_piece = self.end.is_some() && self.pending.is_empty();
            // If the body ended prematurely, its last line may be incomplete and is ignored.
            let is_whole = matches!(self.end, Some(Ok(())));
            let piece = self.piece.clone();
            let app = Arc::clone(&self.ctx.app);
            let mut lines = self.lines.take().ok_or("answering failed")?;
            let answer = move || {
                let mut answers = Vec::with_capacity(piece.len());
                let read = lines.answer(&piece, now, PIECE, &mut answers);
                if is_last_piece && is_whole && read == piece.len() {
                    lines.end(now, &mut answers);
                }
                app.telemetry.metrics.inspected_in_stream(lines.take_counts());
                (lines, answers, read)
            };
            let app = Arc::clone(&self.ctx.app);
            let processor = app.inspection_streams.processors.acquire().await?;
            let (lines, answers, read) = tokio::task::spawn_blocking(answer).await?;
            drop(processor);
            self.piece.advance(read);
            let is_last = is_last_piece && self.piece.is_empty();
            self.lines = Some(lines);
            pieces.send(answers).await?;
            if is_last {
                // The packets before a premature end have been answered.
                self.end.take().unwrap_or(Ok(()))?;
                pieces.end().await?;
                self.is_answered = true;
                return Ok(());
            }
        }
    }

    /// Waits for packets if there are none, and then takes whatever else has arrived.
    async fn fill(&mut self) {
        while self.end.is_none() && self.pending.len() < PIECE {
            let next = self.packets.next();
            let piece = if self.pending.is_empty() {
                next.await
            } else {
                let Some(piece) = next.now_or_never() else { break };
                piece
            };
            match piece {
                Some(Ok(piece)) => self.pending.extend_from_slice(&piece),
                Some(Err(error)) => self.end = Some(Err(error)),
                None => self.end = Some(Ok(())),
            }
        }
    }
}
