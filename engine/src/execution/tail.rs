//! Where a stage's rows go: through its operators into sinks and edges, in order.
//!
//! Owns the sink writers and the sending ends of the edges. Everything is written before the next
//! batch, mark or barrier, so that nothing overtakes anything.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use weir_runtime::clock::Instant;
use weir_state::ids::CheckpointId;

use super::chain::{Chain, Leaf};
use super::counters::Counters;
use super::error::StageError;
use super::staged::Staged;
use crate::exchange::OutputChannels;
use crate::exchange::message::Message;
use crate::protocol::Piece;
use crate::rows::Rows;
use crate::sink::SinkWriter;

/// The writer of a sink step.
pub(crate) struct SinkEnd {
    /// Index of the step.
    pub(crate) step: usize,
    /// Its writer.
    pub(crate) writer: Box<dyn SinkWriter>,
}

/// Everything behind a stage's head.
pub(crate) struct Tail {
    head: String,
    chain: Chain,
    sinks: Vec<SinkEnd>,
    edges: Vec<OutputChannels>,
    staged: Staged,
    counters: Arc<Counters>,
    reached: Vec<(Leaf, Rows)>,
}

impl Tail {
    /// Behind the step `head`; sinks and edges lie at the places that `chain` gives its leaves.
    pub(crate) fn new(
        head: String,
        chain: Chain,
        sinks: Vec<SinkEnd>,
        edges: Vec<OutputChannels>,
        counters: Arc<Counters>,
    ) -> Self {
        let staged = Staged::default();
        Self { head, chain, sinks, edges, staged, counters, reached: Vec::new() }
    }

    /// Runs rows through the operators and writes what comes out. Waits for room in the edges.
    ///
    /// Not cancel safe.
    pub(crate) async fn emit(&mut self, rows: Rows) -> Result<(), StageError> {
        self.chain.run(rows, &mut self.reached)?;
        for (leaf, rows) in self.reached.drain(..) {
            match leaf {
                Leaf::Sink(place) => {
                    let SinkEnd { step, writer } = &mut self.sinks[place];
                    let written = writer.write(&rows).await;
                    written.map_err(|error| StageError::Sink(Arc::new(error)))?;
                    self.counters.step(*step).add_out(rows.len());
                }
                Leaf::Edge(place) => {
                    let sent = self.edges[place].send(rows).await;
                    sent.map_err(|cause| StageError::exchange(&self.head, cause))?;
                }
            }
        }
        Ok(())
    }

    /// Tells all receivers of all edges. Not cancel safe.
    pub(crate) async fn tell(&mut self, message: Message) -> Result<(), StageError> {
        for edge in &mut self.edges {
            let told = edge.broadcast(message.clone()).await;
            told.map_err(|cause| StageError::exchange(&self.head, cause))?;
        }
        Ok(())
    }

    /// Sends what waits for company. Not cancel safe.
    pub(crate) async fn flush(&mut self) -> Result<(), StageError> {
        for edge in &mut self.edges {
            edge.flush().await.map_err(|cause| StageError::exchange(&self.head, cause))?;
        }
        Ok(())
    }

    /// When to flush at the latest, if anything waits.
    pub(crate) fn flush_at(&self) -> Option<Instant> {
        self.edges.iter().filter_map(OutputChannels::flush_at).min()
    }

    /// Cuts all sinks at a barrier; the future ends when all that is to be listed is durable.
    pub(crate) fn cut(
        &mut self,
        checkpoint: CheckpointId,
        completed: CheckpointId,
    ) -> Result<BoxFuture<'static, Result<Vec<Piece>, StageError>>, StageError> {
        if self.staged.is_full() {
            return Err(StageError::TooManyCuts { step: self.head.clone() });
        }
        let counters = &self.counters;
        let cuts = self.sinks.iter_mut().map(|SinkEnd { step, writer }| {
            let (step, counters) = (*step, Arc::clone(counters));
            let cut = writer.cut(checkpoint);
            let counted = cut.inspect(move |pieces| {
                let pieces = pieces.iter().flatten();
                counters.step(step).add_bytes(pieces.map(|piece| piece.bytes).sum());
            });
            counted.boxed()
        });
        let listed = self.staged.cut(checkpoint, completed, cuts.collect());
        Ok(listed.map(|pieces| pieces.map_err(StageError::Sink)).boxed())
    }
}
