//! Packets that are inspected while they come, and answered while they are taken: any number of them,
//! at one state of the policy. Nothing is read that cannot be answered yet: a client that takes no
//! answers is asked for no more packets, so that memory does not grow with the stream.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use fireflow_domain::usecase::inspect::InspectedPolicy;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use poem::Body;
use tokio::sync::OwnedSemaphorePermit;

use crate::app::{App, Context};
use crate::dto::packet_lines::VerdictLines;
use crate::problem::{Code, Problem};

/// How many bytes of packets are answered at once; what of them has come already is taken, and no
/// more is waited for.
const PIECE: usize = 64 * 1024;
/// How many streams there are at once, for each processor.
const PER_PROCESSOR: usize = 8;

/// How many streams there may be at once.
#[must_use]
pub fn most_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).saturating_mul(PER_PROCESSOR)
}

/// The right to answer a stream.
#[derive(Debug)]
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Turn {
    /// Takes one.
    ///
    /// # Errors
    /// 503 where there are too many already.
    pub fn take(app: &App) -> Result<Self, Problem> {
        let Ok(permit) = Arc::clone(&app.inspection_streams).try_acquire_owned() else {
            let detail = "too many streams of packets are being inspected; try again";
            return Err(Problem::unavailable(Code::Unavailable, detail, 5));
        };
        Ok(Self { _permit: permit })
    }
}

/// A stream under way.
struct Stream {
    app: Arc<App>,
    packets: BoxStream<'static, io::Result<Bytes>>,
    /// What has come and is not answered yet.
    pending: BytesMut,
    lines: VerdictLines,
    has_ended: bool,
    _turn: Turn,
}

/// The answers to the packets of a body, made as they are taken. Where the body does not come to its
/// end, neither do they.
#[must_use]
pub fn answers(ctx: &Context, inspected: InspectedPolicy, packets: Body, turn: Turn) -> Body {
    let stream = Stream {
        app: Arc::clone(&ctx.app),
        packets: packets.into_bytes_stream().boxed(),
        pending: BytesMut::new(),
        lines: VerdictLines::new(inspected, ctx.caller.now),
        has_ended: false,
        _turn: turn,
    };
    Body::from_bytes_stream(stream::try_unfold(stream, Stream::next))
}

impl Stream {
    /// The next answers; none behind the last.
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        while !(self.has_ended && self.pending.is_empty()) {
            self.fill().await?;
            let piece = self.pending.split_to(PIECE.min(self.pending.len()));
            let is_last = self.has_ended && self.pending.is_empty();
            let (app, mut lines) = (Arc::clone(&self.app), self.lines);
            let answer = move || {
                let mut answers = Vec::with_capacity(piece.len());
                lines.answer(&piece, &mut answers);
                if is_last {
                    lines.end(&mut answers);
                }
                app.telemetry.metrics.inspected_in_stream(lines.take_counts());
                (lines, answers)
            };
            let answered = tokio::task::spawn_blocking(answer).await;
            let (lines, answers) = answered.map_err(io::Error::other)?;
            self.lines = lines;
            // An empty piece could be taken for the end.
            if !answers.is_empty() {
                return Ok(Some((answers.into(), self)));
            }
        }
        Ok(None)
    }

    /// Waits for packets where there are none, and takes what else has come.
    async fn fill(&mut self) -> io::Result<()> {
        while !self.has_ended && self.pending.len() < PIECE {
            let next = self.packets.next();
            let piece = if self.pending.is_empty() {
                next.await
            } else {
                let Some(piece) = next.now_or_never() else { break };
                piece
            };
            match piece {
                Some(piece) => self.pending.extend_from_slice(&piece?),
                None => self.has_ended = true,
            }
        }
        Ok(())
    }
}
