//! From what workers acknowledge to what the journal records, and back to what they restore. Pure.

use std::collections::BTreeMap;

use prost::Message;
use weir_state::ids::{CheckpointId, Generation, KeyGroupRange};
use weir_state::journal::record::{self, NewGeneration, StepBytes, SubtaskPlace, WorkerAddress};
use weir_state::journal::{CheckpointState, CompletedCheckpoint, JobState};
use weir_state::version::record::VersionRecord;

use super::begin::PlannedSource;
use super::layout::Layout;
use crate::cluster::Member;
use crate::pipeline::checked::CheckedJob;
use crate::pipeline::graph::{Graph, Head};
use crate::protocol::{Ack, Piece, RangeWatermark, Restore, SourcePositions};
use crate::source::dealing;

/// The record of a new generation that starts from the last checkpoint.
pub(crate) fn generation(number: Generation, layout: &Layout, state: &JobState) -> NewGeneration {
    let width = layout.width();
    let place = |(subtask, worker): (u32, String)| {
        let range = KeyGroupRange::of_subtask(subtask, width, state.key_groups);
        SubtaskPlace { worker, group_start: range.start.into(), group_end: range.end.into() }
    };
    let address = |worker: &Member| WorkerAddress {
        incarnation: worker.incarnation.clone(),
        address: worker.address.clone(),
    };
    NewGeneration {
        number: number.0,
        workers: layout.workers.iter().map(address).collect(),
        subtasks: (0..).zip(layout.subtasks()).map(place).collect(),
        from: state.last_checkpoint().map_or(0, |last| last.id.0),
        restore: false,
    }
}

/// Who runs what in the generation that lives, as its record says.
pub(crate) fn layout(state: &JobState) -> Option<Layout> {
    // One without workers only says where a job's state came from.
    let is_run = |its: &&NewGeneration| !state.released && !its.workers.is_empty();
    let generation = state.generation.as_deref().filter(is_run)?;
    let member = |worker: &WorkerAddress| Member {
        incarnation: worker.incarnation.clone(),
        address: worker.address.clone(),
    };
    let subtasks: Vec<&str> = generation.subtasks.iter().map(|its| its.worker.as_str()).collect();
    Layout::recorded(generation.workers.iter().map(member).collect(), &subtasks)
}

/// An acknowledgement that makes no sense; a bug or damage, never recorded.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint {checkpoint}: stage {stage}, subtask {subtask} acknowledged {what}")]
pub(crate) struct BadAck {
    checkpoint: u64,
    stage: u32,
    subtask: u32,
    what: String,
}

/// What becomes of a checkpoint's acknowledgements.
pub(crate) struct Collected {
    pub(crate) entry: CompletedCheckpoint,
    pub(crate) pieces: Vec<Piece>,
    /// State objects that no record names and nothing needs.
    pub(crate) unnamed: Vec<String>,
}

/// Puts the acknowledgements of all subtasks (in order of stage and subtask) together.
pub(crate) fn collect(
    id: CheckpointId,
    acks: &[Ack],
    job: &CheckedJob,
    graph: &Graph,
    sources: &BTreeMap<String, PlannedSource>,
    state: &JobState,
    retained: u32,
) -> Result<Collected, BadAck> {
    let last = state.last_checkpoint();
    let mut entry = CompletedCheckpoint {
        id,
        retained: usize::try_from(retained).unwrap_or(usize::MAX),
        ..CompletedCheckpoint::default()
    };
    for (index, stage) in (0..).zip(&graph.stages) {
        let of_stage: Vec<&Ack> = acks.iter().filter(|ack| ack.stage == index).collect();
        match stage.head {
            Head::Source => {
                let step = &job.steps[stage.step].id;
                let positions = positions(step, &of_stage, &sources[step], last)?;
                let bytes = positions.encode_to_vec().into();
                entry.sources.push(StepBytes { step: step.clone(), bytes });
            }
            Head::Keyed => {
                for ack in of_stage {
                    entry.versions.push(version(ack)?);
                    entry.watermarks.extend(ack.watermark.iter().map(to_record));
                }
            }
        }
    }
    let (mut pieces, mut unnamed) = (Vec::new(), Vec::new());
    for ack in acks {
        entry.waiting_rows.extend(ack.waiting_rows.iter().cloned());
        entry.bytes_written += ack.state_bytes_written;
        pieces.extend(ack.pieces.iter().cloned());
        unnamed.extend(ack.unnamed.iter().cloned());
    }
    entry.pieces = pieces.iter().map(piece_to_record).collect();
    Ok(Collected { entry, pieces, unnamed })
}

fn positions(
    step: &str,
    acks: &[&Ack],
    source: &PlannedSource,
    last: Option<&std::sync::Arc<CheckpointState>>,
) -> Result<SourcePositions, BadAck> {
    let own = acks
        .iter()
        .map(|ack| ack.source.clone().ok_or_else(|| bad(ack, "no source positions".to_owned())));
    let own = own.collect::<Result<Vec<_>, _>>()?;
    let previous = last.and_then(|last| positions_of(last, step)).unwrap_or_default();
    Ok(dealing::merge(step, &source.splits, &previous, &own))
}

fn version(ack: &Ack) -> Result<VersionRecord, BadAck> {
    VersionRecord::decode(ack.version.clone())
        .map_err(|error| bad(ack, format!("a version that cannot be read: {error}")))
}

fn bad(ack: &Ack, what: String) -> BadAck {
    let Ack { checkpoint, stage, subtask, .. } = *ack;
    BadAck { checkpoint, stage, subtask, what }
}

/// A source's positions in a recorded checkpoint.
fn positions_of(checkpoint: &CheckpointState, step: &str) -> Option<SourcePositions> {
    let bytes = checkpoint.sources.iter().find(|source| source.step == step)?;
    SourcePositions::decode(bytes.bytes.clone()).ok()
}

/// What the workers of a new generation restore: the last checkpoint, without state that was given up.
pub(crate) fn restore(state: &JobState) -> Option<Restore> {
    let last = state.last_checkpoint()?;
    let is_kept =
        |step: &str| !state.plan.as_ref().is_some_and(|its| its.has_discarded(step, last.id));
    let kept = last.shards.iter().filter(|(shard, _)| is_kept(&shard.step));
    let sources = last.sources.iter();
    Some(Restore {
        checkpoint: last.id.0,
        sources: sources.filter_map(|source| positions_of(last, &source.step)).collect(),
        versions: kept.map(|(_, version)| version.encode_to_vec().into()).collect(),
        watermarks: last.watermarks.iter().map(from_record).collect(),
        waiting_rows: last.waiting_rows.clone(),
    })
}

fn to_record(watermark: &RangeWatermark) -> record::RangeWatermark {
    record::RangeWatermark {
        step: watermark.step.clone(),
        group_start: watermark.group_start,
        group_end: watermark.group_end,
        watermark_ms: watermark.watermark_ms,
    }
}

fn from_record(watermark: &record::RangeWatermark) -> RangeWatermark {
    RangeWatermark {
        step: watermark.step.clone(),
        group_start: watermark.group_start,
        group_end: watermark.group_end,
        watermark_ms: watermark.watermark_ms,
    }
}

fn piece_to_record(piece: &Piece) -> record::Piece {
    record::Piece {
        step: piece.step.clone(),
        folder: piece.folder.clone(),
        staged: piece.staged.clone(),
        final_name: piece.r#final.clone(),
        rows: piece.rows,
        bytes: piece.bytes,
    }
}

/// A recorded piece as workers take it.
pub(crate) fn piece_from_record(piece: &record::Piece) -> Piece {
    Piece {
        step: piece.step.clone(),
        folder: piece.folder.clone(),
        staged: piece.staged.clone(),
        r#final: piece.final_name.clone(),
        rows: piece.rows,
        bytes: piece.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_that_was_given_up_is_not_restored_from_checkpoints_that_still_have_it() {
        let shard = |step: &str| {
            let version =
                VersionRecord { step: step.to_owned(), group_end: 8, ..Default::default() };
            let range = KeyGroupRange { start: 0, end: 8 };
            (weir_state::journal::ShardKey { step: step.to_owned(), range }, version.into())
        };
        let id = CheckpointId(7);
        let last = CheckpointState {
            id,
            shards: [shard("kept"), shard("lost")].into_iter().collect(),
            ..CheckpointState::default()
        };
        let restored = |through: u64| {
            let lost = record::Discarded { step: "lost".into(), through, ..Default::default() };
            let plan = record::Plan { discarded: vec![lost], ..record::Plan::default() };
            let state = JobState {
                plan: Some(plan.into()),
                checkpoints: [(id, std::sync::Arc::new(last.clone()))].into(),
                retained: [id].into(),
                ..JobState::default()
            };
            let restore = restore(&state).unwrap();
            let steps =
                restore.versions.into_iter().map(|its| VersionRecord::decode(its).unwrap().step);
            steps.collect::<Vec<_>>()
        };
        assert_eq!(restored(7), ["kept"]);
        assert_eq!(restored(6), ["kept", "lost"], "a later checkpoint has the new state");
        assert_eq!(restore(&JobState::default()), None);
    }

    #[test]
    fn subtasks_lie_side_by_side_and_their_key_groups_cover_all() {
        let member = |name: &str| Member { incarnation: name.into(), address: "x".into() };
        let layout = Layout::deal(vec![member("a"), member("b")], 4, &Layout::default());
        let state = JobState { key_groups: 128, ..JobState::default() };
        let record = generation(Generation(3), &layout, &state);
        let workers: Vec<_> = record.subtasks.iter().map(|place| place.worker.as_str()).collect();
        assert_eq!(workers, ["a", "a", "b", "b"]);
        let ranges: Vec<_> =
            record.subtasks.iter().map(|place| (place.group_start, place.group_end)).collect();
        assert_eq!(ranges, [(0, 32), (32, 64), (64, 96), (96, 128)]);
        assert_eq!((record.number, record.from), (3, 0));
        let state = JobState { generation: Some(std::sync::Arc::new(record)), ..state };
        assert_eq!(super::layout(&state), Some(layout));
        let state = JobState { released: true, ..state };
        assert_eq!(super::layout(&state), None, "nothing lives after a release");
    }
}
