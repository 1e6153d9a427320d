//! The simulation has teeth: each fault planted in production code is found by some seed.
//!
//! `make sim-teeth` prints which seed found which fault, and what it saw.

use std::panic::{AssertUnwindSafe, catch_unwind};

use weir_runtime::sim::planted::{Planted, plant};

use crate::sim::run_seed;

/// Seeds that are tried; the first ones find most faults.
const SEEDS: u64 = 1_000;

/// The first seed that is not right with the fault, and what was wrong.
fn first_found(fault: Planted) -> Option<(u64, String)> {
    let _planted = plant(fault);
    (0..SEEDS).find_map(|seed| {
        let ended = catch_unwind(AssertUnwindSafe(|| run_seed(seed).map(drop)));
        let ended = ended.unwrap_or_else(|_| Err("panicked".to_owned()));
        ended.err().map(|what| (seed, what))
    })
}

fn must_be_found(fault: Planted) {
    let Some((seed, what)) = first_found(fault) else {
        panic!("{fault:?} is not found within {SEEDS} seeds");
    };
    crate::sim::log::line(&format!("{fault:?}: seed {seed} finds it: {what}"));
}

macro_rules! teeth {
    ($($name:ident: $fault:ident,)*) => {
        $(
            #[test]
            fn $name() {
                must_be_found(Planted::$fault);
            }
        )*
    };
}

teeth! {
    an_acknowledgement_before_the_upload_is_found: AckBeforeUpload,
    a_barrier_that_overtakes_rows_is_found: BarrierOvertakesRows,
    a_checkpoint_with_an_acknowledgement_missing_is_found: AckMissing,
    a_notification_lost_for_good_is_found: NotificationLost,
    a_piece_deleted_before_it_is_published_is_found: DeletedBeforePublished,
    objects_deleted_before_the_record_that_gives_them_up_are_found: RetiredBeforeRecord,
    a_word_about_an_old_generation_that_is_believed_is_found: OldGenerationBelieved,
    a_record_of_an_old_term_is_found: OldTermAccepted,
    a_lost_number_that_does_not_void_its_record_is_found: LostNumberKept,
    a_restore_that_ignores_a_view_is_found: RestoreIgnoresView,
    a_sweep_of_the_living_generation_is_found: LivingSwept,
    a_window_that_forgets_its_lateness_is_found: LatenessForgotten,
    a_timer_that_runs_beside_rows_of_its_key_is_found: TimerUnclaimed,
    a_retraction_that_is_added_is_found: RetractionAdded,
    a_half_of_an_update_that_stays_a_half_is_found: HalfUpdateKept,
    a_watermark_before_the_rows_is_found: WatermarkBeforeRows,
    a_watermark_before_its_windows_is_found: WatermarkBeforeWindows,
    an_epoch_that_is_overtaken_is_found: EpochOvertaken,
    state_in_another_key_group_is_found: KeyGroupAstray,
    sessions_lost_in_a_merge_are_found: SessionLostInMerge,
    a_group_that_lives_by_the_watermark_alone_is_found: TtlByWatermarkAlone,
    a_table_in_which_the_last_arrival_wins_is_found: LastArrivalWins,
    a_split_that_is_read_anew_is_found: SplitReadAnew,
    a_view_that_is_not_clipped_is_found: ViewNotClipped,
    a_compaction_that_is_answered_before_it_is_stored_is_found: CompactedBeforeStored,
    a_compaction_that_leaves_out_an_input_is_found: CompactedInPart,
    unpublished_output_that_a_move_forgets_is_found: UnpublishedLostInMove,
}
