//! How each record moves the state on. Pure: the same records give the same state everywhere.
//!
//! A record that cannot follow is an error and changes nothing; the writer asks the same function
//! before it writes, so no such record is ever written by a correct coordinator.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_runtime::sim::planted::{Planted, planted};

use super::delta::{self, DeltaError};
use super::envelope::FORMAT;
use super::record::{
    Body, Checkpoint, Coordinator, Created, Finished, NewGeneration, Record, Released, Snapshot,
};
use super::state::{CheckpointState, Doomed, JobState, Shards};
use crate::ids::{CheckpointId, Generation, Seq, Term};

/// Why a record cannot follow the state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// The record says nothing that is known here.
    #[error("the record has no known kind")]
    UnknownKind,
    /// Only the first record can be `Created`, and it must be.
    #[error("record {seq} must{} be Created", if seq.0 == 1 { "" } else { " not" })]
    Misplaced {
        /// Number of the record.
        seq: Seq,
    },
    /// The incarnation's formats are newer than this program.
    #[error("the incarnation has format version {found}, this Weir reads up to {known}")]
    NewerFormat {
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// A number that is out of its bounds.
    #[error("{what} cannot be {found}")]
    Number {
        /// Which.
        what: &'static str,
        /// Its value.
        found: u64,
    },
    /// The writer does not reign.
    #[error("term {found} wrote it, and term {reigns} reigns")]
    WrongTerm {
        /// The writer's term.
        found: Term,
        /// The term that reigns.
        reigns: Term,
    },
    /// The job is finished.
    #[error("the job is finished")]
    Finished,
    /// The job is released; only a new coordinator may follow.
    #[error("the job is released")]
    Released,
    /// A checkpoint that is not held.
    #[error("{what} {checkpoint}, which is not held")]
    NotHeld {
        /// Who names it.
        what: &'static str,
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// A generation must start from the last checkpoint unless it restores.
    #[error("the generation starts from checkpoint {found}, the last one is {last}")]
    NotFromLast {
        /// What it says.
        found: CheckpointId,
        /// The last checkpoint.
        last: CheckpointId,
    },
    /// A checkpoint of a generation that is not the last.
    #[error("checkpoint {checkpoint} is of generation {found}, and {living} lives")]
    WrongGeneration {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Its generation.
        found: Generation,
        /// The last generation.
        living: Generation,
    },
    /// The new checkpoint needs an object that may be deleted already.
    #[error("checkpoint {checkpoint} needs {object}, which was given up before")]
    Condemned {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The object.
        object: String,
    },
    /// Something is left to do before the job is finished.
    #[error("output of checkpoint {checkpoint} is not confirmed")]
    Unconfirmed {
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// A snapshot's name is taken or unknown.
    #[error("snapshot {name:?} {what}")]
    SnapshotName {
        /// The name.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The delta does not fit its base.
    #[error("checkpoint {checkpoint}")]
    Delta {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        #[source]
        cause: DeltaError,
    },
}

impl JobState {
    /// The state after one more record; its number is the next one.
    pub fn with(&self, record: &Record) -> Result<Self, FoldError> {
        let body = record.body.as_ref().ok_or(FoldError::UnknownKind)?;
        self.check_may_follow(record.term, body)?;
        let mut next = self.clone();
        next.seq = self.seq.next();
        let needed_before: BTreeSet<String> = match body {
            // Only these two give anything up.
            Body::Checkpoint(_) | Body::Snapshot(_) => owned(&self.named_objects()),
            _ => BTreeSet::new(),
        };
        next.note(record)?;
        match body {
            Body::Created(created) => next.create(created)?,
            Body::Plan(plan) => next.plan = Some(Arc::new(plan.clone())),
            Body::Coordinator(coordinator) => next.reign(coordinator),
            Body::Generation(generation) => next.begin_generation(generation)?,
            Body::Checkpoint(checkpoint) => next.complete(checkpoint)?,
            Body::Snapshot(snapshot) => next.name_snapshot(snapshot)?,
            Body::Released(released) => next.release(released),
            Body::Finished(finished) => next.finish(finished)?,
        }
        next.give_up(&needed_before);
        Ok(next)
    }

    fn check_may_follow(&self, term: u64, body: &Body) -> Result<(), FoldError> {
        let seq = self.seq.next();
        if matches!(body, Body::Created(_)) != (seq == Seq(1)) {
            return Err(FoldError::Misplaced { seq });
        }
        // What a finished job has can still be given a name, and the name be given up.
        let is_visit = matches!(body, Body::Coordinator(_) | Body::Snapshot(_));
        if self.finished.is_some() && !is_visit {
            return Err(FoldError::Finished);
        }
        let reigns = match body {
            Body::Created(_) => Term(0),
            Body::Coordinator(coordinator) if coordinator.term == term => self.term.next(),
            _ if self.released => return Err(FoldError::Released),
            _ => self.term,
        };
        let found = Term(term);
        if found == reigns || planted(Planted::OldTermAccepted) {
            return Ok(());
        }
        Err(FoldError::WrongTerm { found, reigns })
    }

    /// What any record may say beside its body.
    fn note(&mut self, record: &Record) -> Result<(), FoldError> {
        for &id in &record.confirmed {
            let checkpoint = CheckpointId(id);
            let pieces = self.unconfirmed.remove(&checkpoint);
            let pieces =
                pieces.ok_or(FoldError::NotHeld { what: "it confirms checkpoint", checkpoint })?;
            let condemned = self.condemned.entry(self.seq).or_default();
            condemned.extend(pieces.into_iter().map(|piece| match piece.folder.is_empty() {
                true => Doomed::Object(piece.staged),
                false => Doomed::Staged { folder: piece.folder, name: piece.staged },
            }));
        }
        let through = record.deleted_through;
        if through >= self.seq.0 {
            return Err(FoldError::Number { what: "deleted_through", found: through });
        }
        self.condemned = self.condemned.split_off(&Seq(through + 1));
        Ok(())
    }

    fn create(&mut self, created: &Created) -> Result<(), FoldError> {
        if created.format > u32::from(FORMAT) {
            let (found, known) = (created.format, FORMAT.into());
            return Err(FoldError::NewerFormat { found, known });
        }
        let groups = u16::try_from(created.key_groups).ok().filter(|groups| *groups > 0);
        let found = u64::from(created.key_groups);
        self.key_groups = groups.ok_or(FoldError::Number { what: "key_groups", found })?;
        self.format = created.format;
        self.job.clone_from(&created.job);
        self.owner.clone_from(&created.owner);
        Ok(())
    }

    fn reign(&mut self, coordinator: &Coordinator) {
        self.term = Term(coordinator.term);
        self.owner.clone_from(&coordinator.owner);
        self.released = false;
    }

    fn begin_generation(&mut self, generation: &NewGeneration) -> Result<(), FoldError> {
        if Generation(generation.number) <= self.generation_number() {
            let found = generation.number;
            return Err(FoldError::Number { what: "the new generation", found });
        }
        if let Some(place) = generation.subtasks.iter().find(|place| place.range().is_none()) {
            let found = place.group_start.into();
            return Err(FoldError::Number { what: "a subtask's first key group", found });
        }
        let found = CheckpointId(generation.from);
        let last = self.last_checkpoint().map_or(CheckpointId(0), |last| last.id);
        if generation.restore {
            self.check_held("the generation restores checkpoint", found)?;
        } else if found != last {
            return Err(FoldError::NotFromLast { found, last });
        }
        self.generation = Some(Arc::new(generation.clone()));
        Ok(())
    }

    fn complete(&mut self, checkpoint: &Checkpoint) -> Result<(), FoldError> {
        let id = CheckpointId(checkpoint.id);
        let (found, living) = (Generation(checkpoint.generation), self.generation_number());
        if found != living || living == Generation(0) {
            return Err(FoldError::WrongGeneration { checkpoint: id, found, living });
        }
        if self.last_checkpoint().is_some_and(|last| id <= last.id) || id == CheckpointId(0) {
            return Err(FoldError::Number { what: "the new checkpoint", found: id.0 });
        }
        let state = self.checkpoint_state(checkpoint, self.seq)?;
        let condemned: BTreeSet<&Doomed> = self.condemned.values().flatten().collect();
        for object in state.objects() {
            if condemned.contains(&Doomed::Object(object.to_owned())) {
                let object = object.to_owned();
                return Err(FoldError::Condemned { checkpoint: id, object });
            }
        }
        for retired in checkpoint.retired.iter().copied().map(CheckpointId) {
            if !self.retained.remove(&retired) {
                let what = "it retires checkpoint";
                return Err(FoldError::NotHeld { what, checkpoint: retired });
            }
        }
        self.checkpoints.insert(id, Arc::new(state));
        self.retained.insert(id);
        if !checkpoint.pieces.is_empty() {
            self.unconfirmed.insert(id, checkpoint.pieces.clone());
        }
        Ok(())
    }

    /// The full state of a checkpoint whose delta is against one that is held.
    pub(super) fn checkpoint_state(
        &self,
        checkpoint: &Checkpoint,
        seq: Seq,
    ) -> Result<CheckpointState, FoldError> {
        let (id, base) = (CheckpointId(checkpoint.id), CheckpointId(checkpoint.base));
        let nothing = Shards::new();
        let base = if base == CheckpointId(0) {
            &nothing
        } else {
            self.check_held("its delta is against checkpoint", base)?;
            &self.checkpoints[&base].shards
        };
        let shards = delta::apply(base, &checkpoint.shards, &checkpoint.dropped)
            .map_err(|cause| FoldError::Delta { checkpoint: id, cause })?;
        Ok(CheckpointState {
            id,
            seq,
            generation: Generation(checkpoint.generation),
            shards,
            sources: checkpoint.sources.clone(),
            watermarks: checkpoint.watermarks.clone(),
            waiting_rows: checkpoint.waiting_rows.clone(),
            bytes_written: checkpoint.bytes_written,
            wall_ms: checkpoint.wall_ms,
            totals: checkpoint.totals.clone(),
        })
    }

    fn name_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), FoldError> {
        let wrong = |what| FoldError::SnapshotName { name: snapshot.name.clone(), what };
        if snapshot.deleted {
            return self.snapshots.remove(&snapshot.name).map(drop).ok_or(wrong("is unknown"));
        }
        let checkpoint = CheckpointId(snapshot.checkpoint);
        self.check_held("the snapshot is of checkpoint", checkpoint)?;
        match self.snapshots.insert(snapshot.name.clone(), checkpoint) {
            Some(_) => Err(wrong("exists")),
            None => Ok(()),
        }
    }

    fn release(&mut self, _released: &Released) {
        self.released = true;
    }

    fn finish(&mut self, finished: &Finished) -> Result<(), FoldError> {
        if let Some((&checkpoint, _)) = self.unconfirmed.first_key_value() {
            return Err(FoldError::Unconfirmed { checkpoint });
        }
        self.finished = Some(finished.summary.clone());
        Ok(())
    }

    /// Forgets checkpoints that nothing holds any more and condemns what only they needed.
    fn give_up(&mut self, needed_before: &BTreeSet<String>) {
        let (retained, snapshots) = (&self.retained, &self.snapshots);
        let by_snapshot: BTreeSet<CheckpointId> = snapshots.values().copied().collect();
        self.checkpoints.retain(|id, _| retained.contains(id) || by_snapshot.contains(id));
        let needed = self.named_objects();
        let gone = needed_before.iter().filter(|name| !needed.contains(name.as_str()));
        let gone: BTreeSet<Doomed> = gone.cloned().map(Doomed::Object).collect();
        if !gone.is_empty() {
            self.condemned.entry(self.seq).or_default().extend(gone);
        }
    }

    fn check_held(&self, what: &'static str, checkpoint: CheckpointId) -> Result<(), FoldError> {
        match self.checkpoints.contains_key(&checkpoint) {
            true => Ok(()),
            false => Err(FoldError::NotHeld { what, checkpoint }),
        }
    }
}

fn owned(names: &BTreeSet<&str>) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests;
