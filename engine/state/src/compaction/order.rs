//! A compaction as an order that another process can carry out, and its result.
//!
//! An order names its inputs and says how the outputs are cut and called; whoever carries it out
//! needs nothing else but the job's folder. What comes back is looked at before it is installed:
//! [`CompactionOrder::accept`] is pure.

use std::sync::Arc;

use weir_runtime::sim::planted::{Planted, planted};

use super::Compaction;
use crate::error::StateError;
use crate::names::{ObjectNamer, OrderNames};
use crate::obsolete::Obsolete;
use crate::output::{FileCut, Naming, Writer};
use crate::store::StateStore;
use crate::version::record::{VersionRecord, ViewRecord};
use crate::version::{TableHandle, TableMeta, Version, View};

/// Greatest order: stored bytes of its inputs. Larger ones are the worker's own.
pub const TASK_BYTES_MAX: u64 = 1 << 30;
/// Most outputs that an order allows.
const PARTS_MAX: u64 = 1_000;
/// Sizes that whoever carries out an order is willing to cut by.
const BLOCK_BYTES_MAX: u64 = 1 << 20;
const TABLE_BYTES_MAX: u64 = 256 << 20;

/// An order: what to merge, and how its outputs are called.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CompactionOrder {
    /// The generation that ordered it; a newer one voids it.
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    /// The beginning of all output names of all attempts: generation, worker, order.
    #[prost(string, tag = "2")]
    pub stem: String,
    /// Which attempt this is, from 0.
    #[prost(uint32, tag = "3")]
    pub attempt: u32,
    /// Outputs that may be written.
    #[prost(uint32, tag = "4")]
    pub parts_max: u32,
    /// The inputs, with step and key groups of their shard.
    #[prost(message, optional, tag = "5")]
    pub inputs: Option<VersionRecord>,
    /// The level of the outputs.
    #[prost(uint32, tag = "6")]
    pub level: u32,
    /// The place of the outputs within level 0.
    #[prost(uint64, tag = "7")]
    pub seq: u64,
    /// Whether nothing older than the inputs overlaps them.
    #[prost(bool, tag = "8")]
    pub is_bottom: bool,
    /// Uncompressed size at which a data block is closed.
    #[prost(uint64, tag = "9")]
    pub block_bytes: u64,
    /// Size at which a file is closed.
    #[prost(uint64, tag = "10")]
    pub table_bytes: u64,
}

/// What carrying out an order gave: all of it is stored.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CompactionResult {
    /// The order's generation, stem and attempt.
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    /// As in the order.
    #[prost(string, tag = "2")]
    pub stem: String,
    /// As in the order.
    #[prost(uint32, tag = "3")]
    pub attempt: u32,
    /// The files, in key order: names, sizes, first and last keys.
    #[prost(message, repeated, tag = "4")]
    pub files: Vec<ViewRecord>,
}

/// Why a result is not installed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOrder {
    /// It answers another order: of an older generation, another shard, an attempt given up.
    #[error("it answers {found}, not {expected}")]
    Other {
        /// What was ordered.
        expected: String,
        /// What was answered.
        found: String,
    },
    /// Its files are not what the order allows.
    #[error("its file {name} is not as ordered: {problem}")]
    File {
        /// The file.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Together they are no level.
    #[error("its files do not fit: {0}")]
    Together(String),
}

impl CompactionOrder {
    /// The order for the first attempt at a compaction of `version`; `None` if it is too large to be
    /// given away.
    pub(crate) fn new(
        compaction: &Compaction,
        version: &Version,
        namer: &ObjectNamer,
        cut: FileCut,
    ) -> Option<Self> {
        let bytes: u64 = compaction.inputs.iter().map(|view| view.bytes).sum();
        let stored: u64 = compaction.inputs.iter().map(|view| view.table.bytes).sum();
        let (block_bytes, table_bytes) = (cut.block_bytes as u64, cut.table_bytes as u64);
        // Each output but the last is nearly as large as a table is; entries may be laid less
        // tightly than before, but not twice as loosely.
        let smallest = table_bytes.saturating_sub(block_bytes).max(1);
        let parts = (stored / smallest).saturating_mul(2) + 4;
        let fits = bytes <= TASK_BYTES_MAX
            && parts <= PARTS_MAX
            && block_bytes <= BLOCK_BYTES_MAX
            && table_bytes <= TABLE_BYTES_MAX;
        let names = fits.then(|| namer.order(u32::try_from(parts).unwrap_or_default()))?;
        Some(Self {
            generation: namer.generation().0,
            stem: names.stem,
            attempt: names.attempt,
            parts_max: names.parts_max,
            inputs: Some(version.of_views(compaction.inputs.clone()).to_record()),
            level: compaction.level,
            seq: compaction.seq,
            is_bottom: compaction.is_bottom,
            block_bytes,
            table_bytes,
        })
    }

    /// The same order once more, whose outputs have names of their own.
    pub(crate) fn again(&self) -> Self {
        Self { attempt: self.attempt + 1, ..self.clone() }
    }

    /// Stored bytes of the inputs.
    pub fn bytes(&self) -> u64 {
        self.inputs.iter().flat_map(|inputs| &inputs.views).map(|view| view.view_bytes).sum()
    }

    /// Generation, worker, order and attempt in one word, for messages.
    pub fn name(&self) -> String {
        self.names().to_string()
    }

    pub(crate) fn names(&self) -> OrderNames {
        let (attempt, parts_max) = (self.attempt, self.parts_max);
        OrderNames { stem: self.stem.clone(), attempt, parts_max }
    }

    /// What whoever carries the order out works with.
    ///
    /// Errors: [`StateError::BadOrder`] and [`StateError::BadVersion`] when it breaks a rule.
    pub(super) fn open(
        &self,
        store: &Arc<StateStore>,
    ) -> Result<(Compaction, Version, Writer), StateError> {
        let bad = |problem: &str| StateError::BadOrder {
            order: self.name(),
            problem: problem.to_owned(),
        };
        let inputs = self.inputs.as_ref().ok_or_else(|| bad("it has no inputs"))?;
        let version = Version::from_record(inputs)?;
        let size = |bytes: u64, most: u64| usize::try_from(bytes).ok().filter(|_| bytes <= most);
        let cut = FileCut {
            block_bytes: size(self.block_bytes, BLOCK_BYTES_MAX)
                .ok_or_else(|| bad("its blocks are too large"))?,
            table_bytes: size(self.table_bytes, TABLE_BYTES_MAX)
                .ok_or_else(|| bad("its files are too large"))?,
        };
        if self.bytes() > TASK_BYTES_MAX || u64::from(self.parts_max) > PARTS_MAX {
            return Err(bad("it is too large"));
        }
        let compaction = Compaction {
            inputs: {
                let left_out = usize::from(planted(Planted::CompactedInPart));
                version.views()[..version.views().len() - left_out].to_vec()
            },
            level: self.level,
            seq: self.seq,
            is_bottom: self.is_bottom,
        };
        let writer = Writer {
            store: Arc::clone(store),
            step: version.step().into(),
            naming: Naming::Ordered { names: self.names(), next: 0 },
            cut,
            obsolete: Arc::new(Obsolete::default()),
        };
        Ok((compaction, version, writer))
    }

    /// The views of a result, if it is one of this very order and of nothing but its inputs. Dropped
    /// without being installed, they are reported to `obsolete`.
    ///
    /// Whether the inputs are still live is looked at where they are installed.
    pub(crate) fn accept(
        &self,
        compaction: &Compaction,
        version: &Version,
        result: &CompactionResult,
        obsolete: &Arc<Obsolete>,
    ) -> Result<Vec<View>, BadOrder> {
        if (result.generation, &result.stem, result.attempt)
            != (self.generation, &self.stem, self.attempt)
        {
            let CompactionResult { generation, stem, attempt, .. } = result;
            let found = format!("{stem}x{attempt} of generation {generation}");
            return Err(BadOrder::Other { expected: self.name(), found });
        }
        let first = compaction.inputs.iter().map(|view| &view.first).min();
        let last = compaction.inputs.iter().map(|view| &view.last).max();
        let entries = compaction.inputs.iter().map(|view| view.table.entries).sum::<u64>();
        let (Some(first), Some(last)) = (first, last) else {
            return Err(BadOrder::Together("there were no inputs".to_owned()));
        };
        for (part, file) in (0..).zip(&result.files) {
            let problem = if self.names().part(part).as_ref() != Some(&file.name) {
                Some("its name was not ordered")
            } else if file.first_key < *first || file.last_key > *last {
                Some("it has keys that no input has")
            } else if file.entries == 0 || u64::from(file.tail_bytes) > file.bytes {
                Some("its sizes cannot be")
            } else {
                None
            };
            if let Some(problem) = problem {
                return Err(BadOrder::File { name: file.name.clone(), problem });
            }
        }
        if result.files.iter().map(|file| file.entries).sum::<u64>() > entries {
            return Err(BadOrder::Together("they have more entries than the inputs".to_owned()));
        }
        let views: Vec<View> = result.files.iter().map(|file| self.view(file, obsolete)).collect();
        version.of_views(views.clone()).check().map_err(BadOrder::Together)?;
        Ok(views)
    }

    fn view(&self, file: &ViewRecord, obsolete: &Arc<Obsolete>) -> View {
        let meta = TableMeta {
            name: file.name.clone(),
            bytes: file.bytes,
            entries: file.entries,
            tail_bytes: file.tail_bytes,
            first_key: file.first_key.clone(),
            last_key: file.last_key.clone(),
        };
        View::whole(TableHandle::written(meta, obsolete), self.level, self.seq)
    }
}

impl CompactionResult {
    pub(crate) fn of(order: &CompactionOrder, outputs: &[View]) -> Self {
        Self {
            generation: order.generation,
            stem: order.stem.clone(),
            attempt: order.attempt,
            files: outputs.iter().map(View::to_record).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
