//! stub
/// Blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    pub(crate) count: Option<u64>,
}

/// Rows of one block.
pub(crate) const BLOCK_ROWS: u64 = 1_024;

impl Blocks {
    /// How many; none: without end.
    pub fn count(&self) -> Option<u64> {
        self.count.map(|count| count.div_ceil(BLOCK_ROWS))
    }

    /// Rows of block `split`.
    pub fn rows(&self, split: u64) -> u64 {
        let first = split.saturating_mul(BLOCK_ROWS);
        self.count.map_or(BLOCK_ROWS, |count| count.saturating_sub(first).min(BLOCK_ROWS))
    }

    /// Time of the last row of block `split`.
    pub fn max_time_ms(&self, split: u64) -> i64 {
        let _ = split;
        0
    }
}
