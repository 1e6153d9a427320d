//! Settings of the state store: plain data with units and defaults.

/// How much memory and how many requests the shards of one process may use, and how they cut files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Hard limit of the cache (blocks, and rows that stay after their flush), for all shards of the
    /// process.
    pub cache_bytes: usize,
    /// A shard's memtable beyond this size is spilled between checkpoints.
    pub memtable_bytes: usize,
    /// Uncompressed size at which a data block is closed.
    pub block_bytes: usize,
    /// Size at which a table file is closed at the next border of key groups (at twice this size
    /// anywhere).
    pub table_bytes: usize,
    /// Size of the first sorted level; each deeper one may have ten times the size.
    pub level_bytes: u64,
    /// Requests to the object store at the same time.
    pub requests_in_flight_max: usize,
    /// Bytes in requests to the object store at the same time; and as many in memory that point
    /// reads have loaded and not used yet.
    pub bytes_in_flight_max: usize,
    /// How long a request is repeated before its error is final.
    pub retry_max_ms: u64,
    /// How long one attempt may take.
    pub attempt_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cache_bytes: 256 << 20,
            memtable_bytes: 32 << 20,
            block_bytes: 16 << 10,
            table_bytes: 32 << 20,
            level_bytes: 128 << 20,
            requests_in_flight_max: 1024,
            bytes_in_flight_max: 64 << 20,
            retry_max_ms: 60_000,
            attempt_timeout_ms: 30_000,
        }
    }
}

impl Settings {
    /// Divides a worker's memory for state among cache, write buffers and requests in flight.
    pub fn for_memory(bytes: u64, shards: usize) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            cache_bytes: bytes * 3 / 8,
            // A shard's memtables have half as much again at most: see `Shard::make_room`.
            memtable_bytes: (bytes / 3 / shards.max(1)).max(64 << 10),
            bytes_in_flight_max: (bytes / 8).clamp(1 << 20, 256 << 20),
            // A shard may write two at a time, a flush and a compaction.
            table_bytes: (bytes / 16 / shards.max(1)).clamp(1 << 20, 32 << 20),
            ..Self::default()
        }
    }
}
