//! The task of a source stage: reads its splits, paced, and injects barriers between batches.
//!
//! A read is a future of its own, so that barriers are injected while a store is slow, while the
//! source is throttled, and when it has ended. What was read but not emitted is not part of a
//! checkpoint's position.

use std::convert::Infallible;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use weir_runtime::clock::{self, Instant};
use weir_state::ids::CheckpointId;

use super::context::Context;
use super::error::StageError;
use super::orders::{Barriers, Orders};
use super::tail::Tail;
use crate::exchange::message::Message;
use crate::rows::Rows;
use crate::source::dealing::SourceTaskState;
use crate::source::pacing::Pacing;
use crate::source::{Source, SourceError, SplitReader};

/// Rows of one read at most.
const BATCH_ROWS_MAX: usize = 8_192;
/// Longest pause behind the barrier of a cut: whoever has heard nothing until then reads on, which
/// is never wrong, since a new generation starts from the cut whatever this one does after it.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// One subtask of a source stage.
pub(crate) struct SourceTask {
    /// Its surroundings.
    pub(crate) context: Context,
    /// Index of the source's step.
    pub(crate) step: usize,
    /// What is read.
    pub(crate) source: Source,
    /// How far it is.
    pub(crate) state: SourceTaskState,
    /// How fast it may be; none: as fast as it can.
    pub(crate) pacing: Option<Pacing>,
    /// Barriers that were injected.
    pub(crate) barriers: Barriers,
    /// Since when it stands behind the barrier of this cut.
    pub(crate) paused: Option<(CheckpointId, Instant)>,
    /// Whether it reads nothing until a coordinator comes.
    pub(crate) is_held: bool,
    /// Where rows go.
    pub(crate) tail: Tail,
}

/// What a read gave, with the reader that goes on.
type Read = Result<(Box<dyn SplitReader>, Option<Rows>), SourceError>;

/// A split that is being read.
type Reading = BoxFuture<'static, Read>;

/// What the task waits for, besides orders.
enum Doing {
    /// The pace; then a read from this reader.
    Pausing(Option<Box<dyn SplitReader>>),
    /// Rows.
    Reading(Reading),
    /// Nothing: all splits are done.
    Done,
}

enum Event {
    Orders(Orders),
    Flush,
    PauseOver,
    Paced,
    Read(Box<Read>),
}

impl SourceTask {
    /// Runs until it fails.
    pub(crate) async fn run(mut self) -> StageError {
        match self.work().await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn work(&mut self) -> Result<Infallible, StageError> {
        let started = clock::now();
        self.tell_progress().await?;
        let orders = self.context.orders();
        self.obey(orders).await?;
        let mut doing = self.after(None).await?;
        loop {
            let event = self.next(&mut doing, started).await;
            doing = match event {
                Event::Orders(orders) => {
                    self.obey(orders).await?;
                    doing
                }
                Event::Flush => {
                    self.tail.flush().await?;
                    doing
                }
                Event::PauseOver => {
                    tracing::warn!("nothing followed a cut for {PAUSE_MAX:?}: reading on");
                    self.paused = None;
                    doing
                }
                Event::Paced => match doing {
                    Doing::Pausing(reader) => Doing::Reading(self.read(reader)),
                    other => other,
                },
                Event::Read(read) => {
                    let (reader, rows) = read.map_err(StageError::Source)?;
                    let reader = self.took(reader, rows, started).await?;
                    self.after(reader).await?
                }
            };
        }
    }

    async fn next(&mut self, doing: &mut Doing, started: Instant) -> Event {
        let wait = self
            .pacing
            .as_ref()
            .map_or(Duration::ZERO, |pacing| pacing.wait(clock::now().duration_since(started)));
        let flush_at = self.tail.flush_at();
        let (paused, is_held) = (self.paused, self.is_held);
        let goes_on = async {
            if is_held {
                std::future::pending::<()>().await;
            }
            if let Some((_, since)) = paused {
                clock::sleep_until(since + PAUSE_MAX).await;
                return Event::PauseOver;
            }
            match doing {
                Doing::Pausing(_) if wait.is_zero() => {
                    // A source that never waits lets others run after each batch.
                    tokio::task::yield_now().await;
                    Event::Paced
                }
                Doing::Pausing(_) => {
                    clock::sleep(wait).await;
                    Event::Paced
                }
                Doing::Reading(reading) => Event::Read(Box::new(reading.await)),
                Doing::Done => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            orders = self.context.ordered() => Event::Orders(orders),
            event = goes_on => event,
            () = clock::sleep_until(flush_at.unwrap_or(started)), if flush_at.is_some() => {
                Event::Flush
            }
        }
    }

    fn read(&self, reader: Option<Box<dyn SplitReader>>) -> Reading {
        let rows_max =
            self.pacing.as_ref().map_or(BATCH_ROWS_MAX, |pacing| pacing.batch_rows(BATCH_ROWS_MAX));
        let (source, from) = (self.source.clone(), self.state.current());
        async move {
            let mut reader = match (reader, from) {
                (Some(reader), _) => reader,
                (None, Some(from)) => source.open_split(from.split, from.position).await?,
                (None, None) => return std::future::pending().await,
            };
            let rows = reader.next(rows_max).await?;
            Ok((reader, rows))
        }
        .boxed()
    }

    /// Emits what was read; gives the reader if its split goes on.
    async fn took(
        &mut self,
        reader: Box<dyn SplitReader>,
        rows: Option<Rows>,
        started: Instant,
    ) -> Result<Option<Box<dyn SplitReader>>, StageError> {
        let Some(rows) = rows else {
            self.state.finish();
            self.tell_progress().await?;
            return Ok(None);
        };
        self.state.advance(reader.position(), rows.max_time_ms());
        if let Some(pacing) = &mut self.pacing {
            pacing.took(rows.len(), clock::now().duration_since(started));
        }
        self.context.counters().step(self.step).add_out(rows.len());
        self.tail.emit(rows).await?;
        self.tell_progress().await?;
        Ok(Some(reader))
    }

    /// What to do next; at the end of all splits, says so once.
    async fn after(&mut self, reader: Option<Box<dyn SplitReader>>) -> Result<Doing, StageError> {
        if reader.is_some() || self.state.current().is_some() {
            return Ok(Doing::Pausing(reader));
        }
        self.tail.tell(Message::End).await?;
        self.context.input_done().await;
        Ok(Doing::Done)
    }

    async fn tell_progress(&mut self) -> Result<(), StageError> {
        match self.state.progress() {
            Some(progress) => self.tail.tell(Message::Progress(progress)).await,
            None => Ok(()),
        }
    }

    async fn obey(&mut self, orders: Orders) -> Result<(), StageError> {
        self.is_held = orders.held;
        let newest = orders.aborted.max(orders.triggered);
        // The cut was given up, or a later checkpoint shows that the generation goes on.
        self.paused.take_if(|(cut, _)| *cut <= orders.aborted || *cut < newest);
        match self.barriers.due(&orders) {
            Some(checkpoint) => {
                self.checkpoint(checkpoint, orders.completed).await?;
                if orders.pausing == checkpoint {
                    self.paused = Some((checkpoint, clock::now()));
                    self.context.paused(checkpoint).await;
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn checkpoint(
        &mut self,
        checkpoint: CheckpointId,
        completed: CheckpointId,
    ) -> Result<(), StageError> {
        let pieces = self.tail.cut(checkpoint, completed)?;
        let mut ack = self.context.ack(checkpoint);
        ack.source = Some(self.state.positions());
        self.tail.tell(Message::Barrier(checkpoint)).await?;
        let uploaded = async move {
            ack.pieces = pieces.await?;
            Ok(ack)
        };
        self.context.acknowledge(uploaded).await;
        Ok(())
    }
}
