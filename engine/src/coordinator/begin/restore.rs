//! A job that begins from the state of another one: under another name, in another folder, at another
//! width, or all of these.
//!
//! What the checkpoint names is copied (linked, on one disk) and then recorded as this job's first
//! checkpoint, so from there on neither job knows of the other. Until that record the copy may be begun
//! again; a pin keeps a snapshot in place meanwhile. docs/design/0015-snapshots.md.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use weir_runtime::clock::{self, Instant};
use weir_runtime::random;
use weir_state::ids::CheckpointId;
use weir_state::journal::record::NewGeneration;
use weir_state::journal::{
    CheckpointState, CompletedCheckpoint, Entry, JobState, Journal, JournalError, Root, pin, unpin,
};
use weir_state::names::{Incarnation, SinkFile};
use weir_state::objects::{Place, StoreError};

use crate::coordinator::snapshots;
use crate::coordinator::summary::Totals;
use crate::sink::publish::CommittedFile;

/// Objects that are copied at the same time.
const COPIES_MAX: usize = 16;
/// Objects between two looks at the clock.
const STRETCH_OBJECTS: usize = 256;
/// How long a pin counts, and how old it is when the next one is made.
const PIN_LASTS: Duration = Duration::from_secs(3_600);
const PIN_RENEWED: Duration = Duration::from_secs(600);
/// How often a newer checkpoint is taken instead of one that went while it was copied.
const ATTEMPTS_MAX: u32 = 5;

/// Whose state a job begins from, if it has none of its own.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The other state folder.
    pub root: Root,
    /// A snapshot there; none: the newest checkpoint.
    pub snapshot: Option<String>,
    /// Both folders lie in one store that is reached in one way, so that it can copy by itself.
    pub same_store: bool,
}

/// Why a job can't begin from another one's state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Nothing lies there.
    #[error(
        "spec.restoreFrom: {uri} holds no job's state; name the folder that `weir state show` takes"
    )]
    NoState {
        /// The folder.
        uri: String,
    },
    /// The snapshot is not there.
    #[error(
        "spec.restoreFrom: {uri} has no snapshot {name:?}, or it is being deleted; name another one, or \
         `uri` for the newest checkpoint"
    )]
    NoSnapshot {
        /// The folder.
        uri: String,
        /// The snapshot.
        name: String,
    },
    /// No checkpoint was ever completed.
    #[error(
        "spec.restoreFrom: {uri} has no completed checkpoint to begin from; let that job take one"
    )]
    NoCheckpoint {
        /// The folder.
        uri: String,
    },
    /// Both are the same.
    #[error(
        "spec.restoreFrom: {uri} is this job's own state; a job goes on with it without being told"
    )]
    Itself {
        /// The folder.
        uri: String,
    },
    /// Checkpoints of a running job go faster than they are copied.
    #[error(
        "spec.restoreFrom: checkpoints of {uri} are given up faster than they are copied; make a \
         JobSnapshot of that job and begin from it, or suspend the job meanwhile"
    )]
    TooFast {
        /// The folder.
        uri: String,
    },
    /// Its journal can't be read.
    #[error("spec.restoreFrom: the other state cannot be read")]
    Journal(#[from] JournalError),
    /// Objects can't be copied.
    #[error("spec.restoreFrom: the other state cannot be copied")]
    Store(#[from] StoreError),
}

impl RestoreError {
    /// Whether trying again with the same manifest gives the same.
    pub(super) fn is_bad_input(&self) -> bool {
        match self {
            Self::Journal(cause) => {
                matches!(cause.remedy(), weir_state::journal::Remedy::AskHuman)
            }
            Self::Store(cause) => !cause.is_transient(),
            Self::TooFast { .. } => false,
            _ => true,
        }
    }
}

/// A checkpoint of another job, as its journal has it.
pub(super) struct Source {
    origin: Origin,
    incarnation: Incarnation,
    objects: Place,
    pub(super) state: JobState,
    checkpoint: Arc<CheckpointState>,
    /// Steps whose state is not taken along.
    left_out: BTreeSet<String>,
}

impl Source {
    /// Looks for what `origin` names; writes nothing.
    pub(super) async fn find(origin: &Origin, own: &Root) -> Result<Self, RestoreError> {
        let uri = || origin.root.place.uri.clone();
        let (one, two) = (&origin.root.place, &own.place);
        let is_same = match (&one.local, &two.local) {
            (Some(one), Some(two)) => one == two,
            (None, None) => origin.same_store && one.prefix == two.prefix,
            _ => false,
        };
        if is_same && origin.snapshot.is_none() {
            return Err(RestoreError::Itself { uri: uri() });
        }
        let (journal, id) = match &origin.snapshot {
            Some(name) => {
                let found = snapshots::read(&origin.root, name).await?;
                let gone = || RestoreError::NoSnapshot { uri: uri(), name: name.clone() };
                let (journal, kept) = found.ok_or_else(gone)?;
                (journal, Some(kept.checkpoint))
            }
            None => {
                let present = origin.root.present().await?;
                let present = present.ok_or_else(|| RestoreError::NoState { uri: uri() })?;
                let journal = Journal::read_only(&origin.root, &present).await?;
                let last = journal.state().last_checkpoint().map(|last| last.id);
                (journal, last)
            }
        };
        let state = journal.state().clone();
        let checkpoint = id.and_then(|id| state.checkpoints.get(&id).cloned());
        let checkpoint = checkpoint.ok_or_else(|| RestoreError::NoCheckpoint { uri: uri() })?;
        let incarnation = journal.incarnation().clone();
        let objects = journal.objects();
        let (origin, left_out) = (origin.clone(), BTreeSet::new());
        Ok(Self { origin, incarnation, objects, state, checkpoint, left_out })
    }

    /// The run whose state it is.
    pub(super) fn run(&self) -> &str {
        &self.incarnation.id
    }

    /// Takes the state of these steps not along.
    pub(super) fn leave_out(&mut self, steps: BTreeSet<String>) {
        let checkpoint = Arc::make_mut(&mut self.checkpoint);
        checkpoint.shards.retain(|shard, _| !steps.contains(&shard.step));
        self.left_out = steps;
    }

    /// Whether the file holds rows from before the checkpoint: the output goes on behind it.
    pub(super) fn has_written(&self, file: &CommittedFile) -> bool {
        let of_before = |file: SinkFile| file.checkpoint <= self.checkpoint.id;
        file.run == self.incarnation.id && SinkFile::parse(&file.name).is_some_and(of_before)
    }

    /// Copies all that the checkpoint names to where `journal` looks for it.
    pub(super) async fn copy(mut self, journal: &Journal) -> Result<Self, RestoreError> {
        for _ in 0..ATTEMPTS_MAX {
            let mut pins = Pins::new(&self, journal);
            let copied = self.copy_once(journal, &mut pins).await;
            pins.take_away().await;
            if copied? {
                return Ok(self);
            }
            let uri = self.origin.root.place.uri.clone();
            if let Some(name) = self.origin.snapshot {
                return Err(RestoreError::NoSnapshot { uri, name });
            }
            let mut newer = Self::find(&self.origin, journal.root()).await?;
            if newer.state.plan != self.state.plan || newer.incarnation != self.incarnation {
                // What was checked was another job.
                return Err(RestoreError::TooFast { uri });
            }
            newer.leave_out(self.left_out);
            self = newer;
        }
        Err(RestoreError::TooFast { uri: self.origin.root.place.uri })
    }

    /// False: something was not there any more.
    async fn copy_once(
        &self,
        journal: &Journal,
        pins: &mut Pins<'_>,
    ) -> Result<bool, RestoreError> {
        let names: BTreeSet<String> = self.checkpoint.objects().map(str::to_owned).collect();
        let names: Vec<String> = names.into_iter().collect();
        pins.renew().await?;
        for stretch in names.chunks(STRETCH_OBJECTS) {
            pins.renew().await?;
            let copies: Vec<_> = stretch.iter().map(|name| self.copy_one(journal, name)).collect();
            let mut copies = futures::stream::iter(copies).buffer_unordered(COPIES_MAX);
            while let Some(copied) = copies.next().await {
                if !copied? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn copy_one(
        &self,
        journal: &Journal,
        name: &str,
    ) -> BoxFuture<'static, Result<bool, StoreError>> {
        let (target, objects, name) = (journal.objects(), self.objects.clone(), name.to_owned());
        let same_store = self.origin.same_store;
        async move { target.copy_from(&objects, &name, same_store).await }.boxed()
    }

    /// The records with which `journal` has that checkpoint as its own; copied before.
    ///
    /// While objects are copied that no record names yet, no generation is recorded that would make them
    /// a dead one's, whom a sweep takes. Afterwards the number goes on from the one that wrote them, so
    /// that what a copy that was cut off has left is swept one day.
    pub(super) fn entries(&self, state: &JobState, retained: u32) -> Vec<Entry> {
        let generation = |number, from: CheckpointId| {
            Entry::Generation(NewGeneration { number, from: from.0, ..NewGeneration::default() })
        };
        let mut entries = Vec::new();
        let now = state.generation_number().0.max(1);
        if state.generation_number().0 < now {
            entries.push(generation(now, CheckpointId(0)));
        }
        let checkpoint = &*self.checkpoint;
        // Nobody has asked this job for anything yet.
        let totals = Totals { answered: 0, ..Totals::from_bytes(&checkpoint.totals) };
        entries.push(Entry::Checkpoint(CompletedCheckpoint {
            id: checkpoint.id,
            versions: checkpoint.shards.values().map(|shard| (**shard).clone()).collect(),
            sources: checkpoint.sources.clone(),
            watermarks: checkpoint.watermarks.clone(),
            waiting_rows: checkpoint.waiting_rows.clone(),
            pieces: Vec::new(),
            bytes_written: 0,
            totals: totals.to_bytes(),
            retained: usize::try_from(retained).unwrap_or(usize::MAX),
        }));
        let last = self.state.generation_number().0;
        if last > now {
            entries.push(generation(last, checkpoint.id));
        }
        entries
    }

    /// The checkpoint's number.
    pub(super) fn checkpoint(&self) -> CheckpointId {
        self.checkpoint.id
    }
}

/// Keeps a snapshot where it is while it is copied. A checkpoint without a name can't be pinned.
struct Pins<'a> {
    source: &'a Source,
    holder: String,
    made: Vec<String>,
    due: Instant,
}

impl<'a> Pins<'a> {
    fn new(source: &'a Source, journal: &Journal) -> Self {
        let run = &journal.incarnation().id;
        let holder = format!("{run}-{}", &random::id()[..8]);
        Self { source, holder, made: Vec::new(), due: clock::now() }
    }

    /// Each pin has a name of its own: no object is ever changed.
    async fn renew(&mut self) -> Result<(), RestoreError> {
        let Source { origin, incarnation, .. } = self.source;
        let Some(snapshot) = &origin.snapshot else { return Ok(()) };
        let now = clock::now();
        if now < self.due {
            return Ok(());
        }
        let holder = format!("{}-{}", self.holder, self.made.len());
        let lasts = i64::try_from(PIN_LASTS.as_millis()).unwrap_or(i64::MAX);
        let expires = Some(clock::wall_ms() + lasts);
        self.made.push(holder.clone());
        match pin(&origin.root, incarnation, snapshot, &holder, expires).await {
            Ok(()) => {}
            Err(JournalError::SnapshotGone { snapshot: name }) => {
                let uri = origin.root.place.uri.clone();
                return Err(RestoreError::NoSnapshot { uri, name });
            }
            Err(error) => return Err(error.into()),
        }
        self.due = now + PIN_RENEWED;
        Ok(())
    }

    /// One that stays nevertheless expires.
    async fn take_away(self) {
        let Source { origin, incarnation, .. } = self.source;
        let Some(snapshot) = &origin.snapshot else { return };
        for holder in &self.made {
            if let Err(error) = unpin(&origin.root, incarnation, snapshot, holder).await {
                tracing::warn!("a pin is left until it expires: {error}");
            }
        }
    }
}
