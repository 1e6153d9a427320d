//! A keyed step against slow and obvious models of windows, sessions, lateness and ttl.
//!
//! Random batches and watermarks go into a [`Keyed`] as its task would put them there, with reads
//! that take their time, in both orders, with checkpoints and restores in between from which all
//! state is cold. The model looks at one row after the other. What comes out has to be the same:
//! results at the close, changelogs folded by a reader that takes nothing back that is not there,
//! and the number of late rows.

mod harness;
mod model;
mod stored;

use proptest::collection::vec;
use proptest::prelude::*;
use weir_runtime::sim;

use self::harness::{ChangedRow, Harness, Op, Setup, bucket};
use self::model::Model;
use crate::execution::keyed::operator::Operator as _;
use crate::pipeline::spec::{Emit, Order, TumbleSpec, WindowSpec};
use crate::rows::Kind;

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => vec((0..3_u8, 0..120_i64), 1..8).prop_map(Op::Batch),
        3 => (0..40_i64).prop_map(Op::Watermark),
        2 => Just(Op::Read),
        1 => Just(Op::Restore),
    ]
}

fn window() -> impl Strategy<Value = Option<WindowSpec>> {
    let tumble = (1..40_i64, 0..50_i64)
        .prop_map(|(size_ms, offset_ms)| WindowSpec::Tumble(TumbleSpec { size_ms, offset_ms }));
    let hop = (1..40_i64, 1..40_i64, 0..50_i64).prop_map(|(size_ms, every_ms, offset_ms)| {
        WindowSpec::Hop { size_ms, every_ms: every_ms.min(size_ms), offset_ms }
    });
    let session = (1..20_i64).prop_map(|gap_ms| WindowSpec::Session { gap_ms });
    prop_oneof![tumble.prop_map(Some), hop.prop_map(Some), session.prop_map(Some), Just(None),]
}

fn setup() -> impl Strategy<Value = Setup> {
    let emit = prop_oneof![Just(Emit::OnClose), Just(Emit::OnUpdate)];
    let order = prop_oneof![Just(Order::Relaxed), Just(Order::Strict)];
    let ttl = proptest::option::of(1..60_i64);
    let lateness = prop_oneof![Just(0_i64), 1..30_i64];
    (window(), emit, order, ttl, lateness, any::<u64>()).prop_map(
        |(window, emit, order, ttl, lateness, seed)| Setup {
            emit: if window.is_some() { emit } else { Emit::OnUpdate },
            ttl_ms: ttl.filter(|_| window.is_none()),
            lateness_ms: if window.is_some() { lateness } else { 0 },
            changelog: false,
            window,
            order,
            seed,
        },
    )
}

fn check(setup: &Setup, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut model = Model::new(setup);
    for op in ops {
        match op {
            Op::Batch(rows) => rows.iter().for_each(|(key, time)| model.row(*key, *time)),
            Op::Watermark(step) => model.watermark(*step),
            Op::Read | Op::Restore | Op::Changes(_) => {}
        }
    }
    model.end();
    let (setup, ops) = (setup.clone(), ops.to_vec());
    let seed = setup.seed;
    let found = sim::run(seed, async move { Harness::run(setup, &ops).await });
    prop_assert_eq!(found.results, model.results);
    prop_assert_eq!(found.late, model.late);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn results_are_those_of_the_model(setup in setup(), ops in vec(op(), 1..25)) {
        check(&setup, &ops)?;
    }
}

/// What becomes of the rows that are there: one comes, one goes, one is replaced.
#[derive(Clone, Debug)]
enum Edit {
    Add(u8, i64),
    Remove(prop::sample::Index),
    Replace(prop::sample::Index, u8, i64),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let index = any::<prop::sample::Index>;
    let edit = prop_oneof![
        3 => (0..3_u8, 0..50_i64).prop_map(|(key, time)| Edit::Add(key, time)),
        2 => index().prop_map(Edit::Remove),
        2 => (index(), 0..3_u8, 0..50_i64).prop_map(|(at, key, time)| Edit::Replace(at, key, time)),
    ];
    vec(edit, 1..10)
}

/// The changelog of some edits; `rows` are those that are there: key, number, time.
fn changelog(edits: &[Edit], rows: &mut Vec<(u8, i64, i64)>, next: &mut i64) -> Vec<ChangedRow> {
    let mut changes = Vec::new();
    let mut number = || {
        *next += 1;
        *next
    };
    for edit in edits {
        match edit {
            Edit::Add(key, time) => {
                let row = (*key, number(), *time);
                rows.push(row);
                changes.push((Kind::Insert, row.0, row.1, row.2));
            }
            _ if rows.is_empty() => {}
            Edit::Remove(at) => {
                let old = rows.swap_remove(at.index(rows.len()));
                changes.push((Kind::Delete, old.0, old.1, old.2));
            }
            Edit::Replace(at, key, time) => {
                let place = at.index(rows.len());
                let (old, new) = (rows[place], (*key, number(), *time));
                rows[place] = new;
                changes.push((Kind::Before, old.0, old.1, old.2));
                changes.push((Kind::After, new.0, new.1, new.2));
            }
        }
    }
    changes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Rows come and are taken back; what a reader has is what the rows that are left add up to,
    /// and nothing of a group whose last row is gone.
    #[test]
    fn a_changelog_folds_to_the_rows_that_are_left(
        batches in vec((edits(), any::<bool>(), any::<bool>()), 1..12), seed in any::<u64>()
    ) {
        let (mut rows, mut next, mut ops) = (Vec::new(), 0, Vec::new());
        for (edits, reads, restores) in batches {
            ops.push(Op::Changes(changelog(&edits, &mut rows, &mut next)));
            ops.extend(reads.then_some(Op::Read));
            ops.extend(restores.then_some(Op::Restore));
        }
        for order in [Order::Relaxed, Order::Strict] {
            let (emit, window, ttl_ms) = (Emit::OnUpdate, None, None);
            let setup = Setup { window, emit, order, ttl_ms, lateness_ms: 0, changelog: true, seed };
            let ops = ops.clone();
            let found = sim::run(seed, async move { Harness::run(setup, &ops).await });
            prop_assert_eq!(found.results, model::totals(&rows));
        }
    }
}

fn totals_of(changelog: bool, order: Order, seed: u64) -> Setup {
    let (window, emit) = (None, Emit::OnUpdate);
    Setup { window, emit, order, ttl_ms: None, lateness_ms: 0, changelog, seed }
}

/// A changelog as batches of about `length` rows; none ends between the halves of an update.
fn cut(changes: &[ChangedRow], length: usize) -> Vec<Op> {
    let mut ops = Vec::new();
    let mut rest = changes;
    while !rest.is_empty() {
        let mut end = length.min(rest.len());
        while rest.get(end).is_some_and(|row| row.0 == Kind::After) {
            end += 1;
        }
        ops.push(Op::Changes(rest[..end].to_vec()));
        rest = &rest[end..];
    }
    ops
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    /// Groups by how many rows the groups below have: each row moves a group from one to another.
    #[test]
    fn groups_over_groups_are_what_the_rows_add_up_to(
        ops in vec(op(), 1..20), length in 1..9_usize, restores in any::<bool>(), seed in any::<u64>()
    ) {
        for order in [Order::Relaxed, Order::Strict] {
            let (below, rows) = (totals_of(false, order, seed), ops.clone());
            let found = sim::run(seed, async move { Harness::run(below, &rows).await });
            let mut changes = cut(&found.written, length);
            if restores {
                let cold = |op| [op, Op::Read, Op::Restore];
                changes = changes.into_iter().flat_map(cold).collect();
            }
            let above = totals_of(true, order, seed);
            let again = sim::run(seed, async move { Harness::run(above, &changes).await });
            let left = found.results.values().flatten();
            let left: Vec<_> = left.map(|value| (bucket(value), value.1, value.2)).collect();
            prop_assert_eq!(again.results, model::totals(&left));
        }
    }
}

#[test]
fn what_is_taken_back_of_an_earlier_life_changes_nothing() {
    let row = |kind, number, time| (kind, 0, number, time);
    let ops = [
        Op::Changes(vec![row(Kind::Insert, 1, 0)]),
        Op::Changes(vec![row(Kind::Before, 1, 20), row(Kind::After, 2, 20)]),
        Op::Changes(vec![row(Kind::Insert, 3, 25), row(Kind::Delete, 2, 20)]),
    ];
    let (window, emit, order) = (None, Emit::OnUpdate, Order::Relaxed);
    let ttl_ms = Some(10);
    let setup = Setup { window, emit, order, ttl_ms, lateness_ms: 0, changelog: true, seed: 1 };
    let found = sim::run(1, async move { Harness::run(setup, &ops).await });
    let left = [((0, 0, 0), vec![(1, 3, 25)])];
    assert_eq!(found.results, left.into());
}

fn batch(rows: &[(u8, i64)]) -> Op {
    Op::Batch(rows.to_vec())
}

/// Both orders, with the state in memory and cold.
fn check_all(window: Option<WindowSpec>, ttl_ms: Option<i64>, ops: &[Op]) {
    for order in [Order::Relaxed, Order::Strict] {
        let emit = if window.is_some() { Emit::OnClose } else { Emit::OnUpdate };
        let setup =
            Setup { window, emit, order, ttl_ms, lateness_ms: 0, changelog: false, seed: 1 };
        check(&setup, ops).unwrap();
        let cold: Vec<Op> = ops.iter().flat_map(|op| [op.clone(), Op::Restore]).collect();
        check(&setup, &cold).unwrap();
    }
}

#[test]
fn a_row_that_bridges_two_sessions_merges_them() {
    let session = Some(WindowSpec::Session { gap_ms: 10 });
    let ops = [batch(&[(0, 0), (0, 20), (1, 15)]), batch(&[(0, 10)]), Op::Watermark(60)];
    check_all(session, None, &ops);
    // A session that a watermark closed is not merged, though it may not be written yet.
    let ops = [
        batch(&[(0, 0), (1, 0)]),
        Op::Restore,
        batch(&[(1, 5)]),
        Op::Watermark(11),
        batch(&[(0, 7), (0, 1)]),
    ];
    check_all(session, None, &ops);
}

#[test]
fn a_group_that_was_not_written_for_its_ttl_begins_anew() {
    let ops = [
        batch(&[(0, 0), (0, 9)]),
        batch(&[(0, 18), (0, 28)]),
        Op::Watermark(50),
        batch(&[(0, 60)]),
    ];
    check_all(None, Some(10), &ops);
}

/// Whether a row behind a watermark starts while one in front of it waits for its state.
fn starts_before_a_parked_one(order: Order) -> bool {
    sim::run(3, async move {
        let window = Some(WindowSpec::Tumble(TumbleSpec { size_ms: 10, offset_ms: 0 }));
        let emit = Emit::OnClose;
        let changelog = false;
        let setup = Setup { window, emit, order, ttl_ms: None, lateness_ms: 0, changelog, seed: 3 };
        let mut harness = Harness::new(setup);
        harness.batch(&[(0, 5), (1, 12)]).await;
        harness.restore().await;
        harness.batch(&[(0, 6)]).await;
        assert_eq!(harness.keyed().parked(), 1);
        harness.keyed().epochs().watermark(1);
        if !harness.keyed().has_room() {
            return false;
        }
        harness.batch(&[(1, 12)]).await;
        assert_eq!(harness.keyed().epochs().release(), None, "the first row is not done");
        harness.keyed().parked() == 2
    })
}

/// While a row waits for its state in front of a watermark, a row of another key that came behind
/// the watermark starts under Relaxed, and is not taken under Strict. Both orders give the same.
#[test]
fn under_relaxed_a_later_row_starts_before_an_earlier_parked_one_is_done() {
    assert!(!starts_before_a_parked_one(Order::Strict));
    assert!(starts_before_a_parked_one(Order::Relaxed));
    let ops = [
        batch(&[(0, 5), (1, 12)]),
        Op::Restore,
        batch(&[(0, 6)]),
        Op::Watermark(1),
        batch(&[(1, 12)]),
        Op::Read,
        Op::Read,
        Op::Watermark(30),
    ];
    let tumble = Some(WindowSpec::Tumble(TumbleSpec { size_ms: 10, offset_ms: 0 }));
    check_all(tumble, None, &ops);
}

/// Faults that no output shows: `make sim-teeth` runs these too.
mod teeth {
    use weir_runtime::sim::planted::{Planted, plant};

    use super::*;

    /// Both orders give the same rows.
    #[test]
    fn a_strict_order_that_runs_ahead_is_found() {
        let _planted = plant(Planted::StrictRunsAhead);
        assert!(starts_before_a_parked_one(Order::Strict));
    }
}
