//! How views and versions are written into journal records and acknowledgements.
//!
//! Protobuf, so that a field can be added; the records that carry them have the version field.

/// One view as it is stored: a table file, clipped to a key-group range, at its place in a shard.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Message)]
pub struct ViewRecord {
    /// Bare object name, below the incarnation's `objects/` folder.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Size of the whole object in bytes.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
    /// Entries in the whole object.
    #[prost(uint64, tag = "3")]
    pub entries: u64,
    /// Level in the shard: 0 holds flushes, newest first; each deeper one is sorted and disjoint.
    #[prost(uint32, tag = "4")]
    pub level: u32,
    /// Order of flushes in level 0: a larger number is newer. Kept through compaction.
    #[prost(uint64, tag = "5")]
    pub seq: u64,
    /// First key group of the view.
    #[prost(uint32, tag = "6")]
    pub group_start: u32,
    /// One past the last key group of the view.
    #[prost(uint32, tag = "7")]
    pub group_end: u32,
    /// Length in bytes of the tail (index, filter, per-key-group sizes, footer) of the object.
    #[prost(uint32, tag = "8")]
    pub tail_bytes: u32,
    /// A key not after the first key of the object (may be cut short).
    #[prost(bytes = "bytes", tag = "9")]
    pub first_key: bytes::Bytes,
    /// A key not before the last key of the object (may be cut short and rounded up).
    #[prost(bytes = "bytes", tag = "10")]
    pub last_key: bytes::Bytes,
    /// Bytes of the view's key groups within the object, for choosing compactions.
    #[prost(uint64, tag = "11")]
    pub view_bytes: u64,
}

/// One shard's version as it is sent in an acknowledgement.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VersionRecord {
    /// Id of the step whose state this is.
    #[prost(string, tag = "1")]
    pub step: String,
    /// First key group of the shard.
    #[prost(uint32, tag = "2")]
    pub group_start: u32,
    /// One past the last key group of the shard.
    #[prost(uint32, tag = "3")]
    pub group_end: u32,
    /// All views of the shard.
    #[prost(message, repeated, tag = "4")]
    pub views: Vec<ViewRecord>,
    /// The next `seq` for a flush of this shard.
    #[prost(uint64, tag = "5")]
    pub next_seq: u64,
}
