//! Which destination each row goes to.

use arrow::array::UInt32Array;
use arrow::error::ArrowError;
use weir_state::ids::{KeyGroup, KeyGroupRange};

use crate::rows::Rows;

/// The destination subtask of every key group.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    width: usize,
    key_groups: u16,
    destinations: Vec<u32>,
}

impl Partition {
    pub(super) fn new(width: u32, key_groups: u16) -> Self {
        let mut destinations = vec![0; usize::from(key_groups)];
        for subtask in 0..width {
            let range = KeyGroupRange::of_subtask(subtask, width, key_groups);
            destinations[usize::from(range.start)..usize::from(range.end)].fill(subtask);
        }
        Self { width: width as usize, key_groups, destinations }
    }

    fn destination(&self, hash: u64) -> usize {
        let group = KeyGroup::of_hash(hash, self.key_groups);
        self.destinations.get(usize::from(group.0)).map_or(0, |subtask| *subtask as usize)
    }

    /// The rows of each destination that gets any, in their order; `hashes` are those of the keys.
    pub(super) fn deal(
        &self,
        rows: &Rows,
        hashes: &[u64],
    ) -> Result<Vec<(usize, Rows)>, ArrowError> {
        let mut indices = vec![Vec::new(); self.width];
        for (row, hash) in (0..).zip(hashes) {
            indices[self.destination(*hash)].push(row);
        }
        let mut parts = Vec::new();
        for (to, indices) in indices.into_iter().enumerate() {
            if indices.len() == rows.len() {
                parts.push((to, rows.clone()));
            } else if !indices.is_empty() {
                parts.push((to, rows.take(&UInt32Array::from(indices))?));
            }
        }
        Ok(parts)
    }
}
