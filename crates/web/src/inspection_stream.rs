//! Streams of packets: packets are inspected as they arrive, and answered as the client reads,
//! against one state of the policy. The number of packets is unlimited. If the client does not read
//! its answers, no more packets are read, so memory does not grow with the stream.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use fireflow_domain::error::{BoxError, ErrorChain};
use fireflow_domain::usecase::inspect::InspectedPolicy;
use fireflow_formats::verdict_lines::VerdictLines;
use fireflow_service::streams::StreamPermit;
use fireflow_telemetry::request;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use poem::Body;
use tokio::time::timeout;

use crate::app::Context;
use crate::pieces::{self, Pieces};

/// How many bytes of packets are answered at once. A piece consists of what has already arrived; a
/// full piece is not waited for. The answers to a piece exceed this size by at most one line.
const PIECE: usize = 128 * 1024;
/// No answer has fewer bytes.
const LEAST_ANSWER: usize = 64;
/// How many pieces of answers may wait to be sent.
const AHEAD: usize = 1;
/// How long the head of the answer waits for the first packets. A client with the expectation
/// `100-continue` gets `100 Continue` when the service first reads packets.
const FIRST_WAIT: Duration = Duration::from_secs(1);

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
    _permit: StreamPermit,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.ctx.app.telemetry.metrics.stream_ended(self.is_answered);
    }
}

/// The answers to the packets of a body, written as the client reads them. If the body ends
/// prematurely, so do the answers.
pub async fn answers(
    ctx: &Context,
    inspected: InspectedPolicy,
    packets: Body,
    permit: StreamPermit,
) -> Body {
    let mut stream = Stream {
        ctx: ctx.clone(),
        packets: packets.into_bytes_stream().boxed(),
        pending: BytesMut::new(),
        piece: Bytes::new(),
        end: None,
        lines: Some(VerdictLines::new(inspected)),
        is_answered: false,
        _permit: permit,
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
                timeout(self.ctx.app.streams.packet_timeout, self.fill())
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
            let most = self.admit().await?;
            let mut lines = self.lines.take().ok_or("answering failed")?;
            let answer = move || {
                let mut answers = Vec::with_capacity(piece.len());
                let read = lines.answer(&piece, now, most, &mut answers);
                if is_last_piece && is_whole && read == piece.len() {
                    lines.end(now, &mut answers);
                }
                app.telemetry.metrics.inspected_in_stream(lines.take_counts());
                (lines, answers, read)
            };
            let app = Arc::clone(&self.ctx.app);
            let processor = app.streams.processor().await?;
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

    /// How many bytes of answers are made next. If the rules are not compiled, only so many packets
    /// are compared with them at once, and at a bounded rate.
    async fn admit(&mut self) -> Result<usize, BoxError> {
        let inspected = self.lines.as_ref().ok_or("answering failed")?.inspected();
        let packets = PIECE / LEAST_ANSWER;
        let admitted = self.ctx.app.inspections.admit(&self.ctx, inspected, packets, false).await?;
        Ok(if admitted < packets { admitted * LEAST_ANSWER } else { PIECE })
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
