//! How a simulated store behaves, and the kinds of calls. Plain data.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::FaultRates;

/// The kinds of calls, for latencies, counts and planned faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// A write that replaces what is there; also the end of an upload in parts.
    Put,
    /// A write only if nothing is there.
    Create,
    /// One part of an upload.
    PutPart,
    /// A read of an object or of ranges of one.
    Get,
    /// A look at an object's size and tag.
    Head,
    /// A listing.
    List,
    /// A deletion of one object.
    Delete,
    /// A copy within the store.
    Copy,
}

impl Operation {
    pub(super) fn writes(self) -> bool {
        matches!(self, Self::Put | Self::Create | Self::PutPart | Self::Copy)
    }
}

/// How a simulated store behaves.
#[derive(Clone, Debug)]
pub struct SimStoreSettings {
    /// Draws latencies and faults.
    pub seed: u64,
    /// Duration of reads and looks.
    pub read_latency: RangeInclusive<Duration>,
    /// Duration of writes and copies.
    pub write_latency: RangeInclusive<Duration>,
    /// Duration of listings.
    pub list_latency: RangeInclusive<Duration>,
    /// Duration of deletions.
    pub delete_latency: RangeInclusive<Duration>,
    /// Faults by chance.
    pub faults: FaultRates,
    /// Bytes that fit; a write beyond fails as on a full disk.
    pub capacity_bytes: Option<u64>,
    /// Creates replace what is there, as in a store that does not know the condition.
    pub ignores_create_if_absent: bool,
    /// Keep a line per call for [`SimStore::trace`].
    pub keep_trace: bool,
}

impl SimStoreSettings {
    /// A store that answers at once and never fails.
    pub fn instant(seed: u64) -> Self {
        let none = Duration::ZERO..=Duration::ZERO;
        Self {
            seed,
            read_latency: none.clone(),
            write_latency: none.clone(),
            list_latency: none.clone(),
            delete_latency: none,
            faults: FaultRates::default(),
            capacity_bytes: None,
            ignores_create_if_absent: false,
            keep_trace: false,
        }
    }

    /// A store whose calls take between `least` and `most`, all kinds alike.
    pub fn with_latency(seed: u64, least: Duration, most: Duration) -> Self {
        let range = least..=most;
        Self {
            read_latency: range.clone(),
            write_latency: range.clone(),
            list_latency: range.clone(),
            delete_latency: range,
            ..Self::instant(seed)
        }
    }

    pub(super) fn latency(&self, operation: Operation) -> &RangeInclusive<Duration> {
        match operation {
            Operation::Get | Operation::Head => &self.read_latency,
            Operation::List => &self.list_latency,
            Operation::Delete => &self.delete_latency,
            _ => &self.write_latency,
        }
    }
}
