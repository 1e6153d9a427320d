//! Publishes what a completed checkpoint has staged, beside everything else.
//!
//! One commit at a time; the coordinator repeats itself until it hears that all is published, so of
//! those that come meanwhile only the newest is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use weir_runtime::task::{self, Task};

use crate::execution::error::StageError;
use crate::objects::Objects;
use crate::pipeline::spec::{JobSpec, StoreSpec, Verb};
use crate::protocol::{Commit, Committed, Piece};
use crate::sink::SinkError;
use crate::sink::publish::publish;

/// Pieces that are being published at the same time.
const PIECES_MAX: usize = 16;

/// Where pieces are published: how to reach each sink's store.
#[derive(Clone)]
pub(crate) struct Folders {
    objects: Arc<dyn Objects>,
    stores: Arc<BTreeMap<String, StoreSpec>>,
}

impl Folders {
    /// Of the sinks of a job.
    pub(crate) fn new(spec: &JobSpec, objects: Arc<dyn Objects>) -> Self {
        let store = |verb: &Verb| match verb {
            Verb::Sink(sink) => sink.folder().map(|(_, store)| store.clone()),
            _ => None,
        };
        let steps = spec.pipeline.iter();
        let stores = steps.filter_map(|step| Some((step.id.clone(), store(&step.verb)?)));
        Self { objects, stores: Arc::new(stores.collect()) }
    }

    async fn publish(&self, piece: &Piece) -> Result<(), SinkError> {
        // A sink that the pipeline no longer has: by its URI and the environment.
        let store = self.stores.get(&piece.step).cloned().unwrap_or_default();
        let folder = self.objects.open(&piece.folder, &store);
        let folder = folder.map_err(|cause| SinkError::Uri { step: piece.step.clone(), cause })?;
        publish(&folder, piece).await
    }
}

/// What came of a commit.
pub(crate) enum Published {
    /// To be told to the coordinator.
    Done(Committed),
    /// A piece could not be published. The commit is tried again when it is repeated.
    Failed(StageError),
}

/// The worker's publisher.
#[derive(Default)]
pub(crate) struct Publisher {
    running: Option<(u64, Task<Published>)>,
    next: Option<(Commit, Folders)>,
}

impl Publisher {
    /// Publishes the pieces of `commit`, now or when the one under way is done.
    pub(crate) fn publish(&mut self, commit: Commit, folders: Folders) {
        match &self.running {
            Some((checkpoint, _)) if *checkpoint == commit.checkpoint => {}
            Some(_) => self.next = Some((commit, folders)),
            None => self.start(commit, folders),
        }
    }

    fn start(&mut self, commit: Commit, folders: Folders) {
        let checkpoint = commit.checkpoint;
        self.running = Some((checkpoint, task::spawn(run(commit, folders))));
    }

    /// Waits until a commit is done. Cancel safe.
    pub(crate) async fn published(&mut self) -> Published {
        loop {
            let Some((_, running)) = &mut self.running else {
                return std::future::pending().await;
            };
            let outcome = running.await;
            self.running = None;
            if let Some((commit, folders)) = self.next.take() {
                self.start(commit, folders);
            }
            match outcome {
                Ok(published) => return published,
                // The coordinator repeats it.
                Err(error) => tracing::error!("bug in Weir: publishing: {error}"),
            }
        }
    }

    /// The generation is over: another worker publishes what is left.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

async fn run(commit: Commit, folders: Folders) -> Published {
    let publish = |piece: Piece| {
        let folders = folders.clone();
        async move { folders.publish(&piece).await.map(|()| piece) }
    };
    let mut pieces = stream::iter(commit.pieces).map(publish).buffered(PIECES_MAX);
    let mut done = Vec::new();
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => done.push(piece),
            Err(error) => return Published::Failed(StageError::Sink(Arc::new(error))),
        }
    }
    Published::Done(Committed { checkpoint: commit.checkpoint, pieces: done })
}
