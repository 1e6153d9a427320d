//! A batch of rows as it moves through a job: columns, event times, origins.

use arrow::array::{Int64Array, RecordBatch, UInt64Array};

/// Rows with what travels beside their columns. All parts have the same number of rows.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The user's columns.
    pub batch: RecordBatch,
    /// Event time of each row in milliseconds since 1970-01-01T00:00Z; none: rows have no time.
    pub times: Option<Int64Array>,
    /// [`Origin`] of each row, up to the first aggregate.
    pub origins: Option<UInt64Array>,
}

/// Where a row was read: source (8 bits), object (16), position (40: row in a parquet file, byte
/// in an ndjson file); of a generated source, source (8) and event number (56).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin(pub u64);
