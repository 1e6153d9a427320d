//! Faults that tests plant in production code, to show that the simulation would find them.
//!
//! Without the feature `testing` (that is, in every build but those of tests) [`planted`] is the
//! constant `false`, and nothing of a planted fault is compiled in.

/// A fault, named after the rule that it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A sink's upload goes on after its checkpoint was acknowledged.
    AckBeforeUpload,
    /// A barrier overtakes the rows that wait for company in front of it.
    BarrierOvertakesRows,
    /// A checkpoint completes with an acknowledgement missing.
    AckMissing,
    /// An order to publish is given once and taken for done.
    NotificationLost,
    /// A staged piece is deleted before its final name is there.
    DeletedBeforePublished,
    /// What a record gives up is deleted before the record is written.
    RetiredBeforeRecord,
    /// The coordinator takes a worker's word about an older generation for one about the present.
    OldGenerationBelieved,
    /// Records of a superseded term are accepted.
    OldTermAccepted,
    /// A coordinator goes on as if it had got a number that went to another's record.
    LostNumberKept,
    /// A restored shard misses its last view.
    RestoreIgnoresView,
    /// A sweep deletes what the living generation has not named yet.
    LivingSwept,
    /// A window closes at its end, whatever its lateness.
    LatenessForgotten,
    /// A session's timers run while rows of their key are in flight.
    TimerUnclaimed,
    /// A row that is taken back is added.
    RetractionAdded,
    /// A half of an update that has lost the other stays a half.
    HalfUpdateKept,
    /// Watermarks and progress are sent before the rows that wait for company.
    WatermarkBeforeRows,
    /// A watermark is forwarded before the windows that it closes.
    WatermarkBeforeWindows,
    /// A watermark is released although rows before it are not done.
    EpochOvertaken,
    /// In strict order rows behind a watermark are taken as in relaxed order.
    StrictRunsAhead,
    /// The key group of a key's state is not that by which its rows are dealt.
    KeyGroupAstray,
    /// A session that merges others loses the rows of all but the first.
    SessionLostInMerge,
    /// Whether a group's time is over is judged by the watermark, not by the row's own time.
    TtlByWatermarkAlone,
    /// Of the rows of a key in a table the last arrival wins, whatever its time.
    LastArrivalWins,
    /// A row that is taken back before it came is forgotten.
    EarlyRetractionLost,
    /// A split that was begun while earlier ones were not done is read from its beginning.
    SplitReadAnew,
    /// A shard that takes over a part of another also takes the rest of its timers and values.
    ViewNotClipped,
    /// A move to another width forgets the output that nobody has published yet.
    UnpublishedLostInMove,
    /// A coordinator ends workers that it lost without asking whether it still reigns, and a worker
    /// does not tell it why it leaves it.
    ReignUnasked,
    /// A compactor answers before its last file is stored.
    CompactedBeforeStored,
    /// A compactor leaves out the oldest of its inputs.
    CompactedInPart,
}

#[cfg(feature = "testing")]
mod testing {
    use std::cell::Cell;

    use super::Planted;

    thread_local! {
        static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
    }

    /// Whether this fault is planted on this thread.
    pub fn planted(fault: Planted) -> bool {
        PLANTED.get() == Some(fault)
    }

    /// Plants a fault on this thread until the guard is dropped.
    pub fn plant(fault: Planted) -> Planting {
        PLANTED.set(Some(fault));
        Planting(())
    }

    /// Dropped, it takes the planted fault away.
    #[must_use = "dropping it takes the fault away"]
    #[derive(Debug)]
    pub struct Planting(());

    impl Drop for Planting {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }
}

#[cfg(feature = "testing")]
pub use testing::{Planting, plant, planted};

/// Whether this fault is planted: never.
#[cfg(not(feature = "testing"))]
pub const fn planted(_: Planted) -> bool {
    false
}
