//! `apply` undoes `diff`, whatever the shards and however they are cut anew; a delta is small when
//! little changed. Method: random tables with views over random ranges, from a small alphabet, so
//! that the same table comes back, moves between levels, and is cut.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use prost::Message;

use super::*;

const GROUPS: u32 = 12;

/// Borders that cut the key groups of a step into shards.
fn cuts() -> impl Strategy<Value = Vec<u32>> {
    btree_set(1..GROUPS, 0..4).prop_map(|inner| {
        let mut cuts = vec![0];
        cuts.extend(inner);
        cuts.push(GROUPS);
        cuts
    })
}

fn view() -> impl Strategy<Value = (u8, u32, u64)> {
    (0..6u8, 0..3u32, 0..3u64)
}

fn version(step: &str, start: u32, end: u32, views: &[(u8, u32, u64)]) -> VersionRecord {
    let view = |(name, level, seq): &(u8, u32, u64)| ViewRecord {
        name: format!("t{name}"),
        level: *level,
        seq: *seq,
        group_start: start,
        group_end: end,
        ..ViewRecord::default()
    };
    let unique: BTreeMap<u8, (u8, u32, u64)> = views.iter().map(|view| (view.0, *view)).collect();
    VersionRecord {
        step: step.into(),
        group_start: start,
        group_end: end,
        views: unique.values().map(view).collect(),
        next_seq: u64::from(start),
    }
}

fn some_shards() -> impl Strategy<Value = Shards> {
    let of_step = |step: &'static str| {
        (cuts(), vec(vec(view(), 0..5), 5)).prop_map(move |(cuts, views)| {
            let pairs = cuts.windows(2).zip(views);
            pairs.map(|(pair, views)| version(step, pair[0], pair[1], &views)).collect::<Vec<_>>()
        })
    };
    (of_step("a"), of_step("b")).prop_map(|(a, b)| shards(a.into_iter().chain(b)).unwrap())
}

proptest! {
    #[test]
    fn apply_undoes_diff(base in some_shards(), next in some_shards()) {
        let (deltas, dropped) = diff(&base, &next).unwrap();
        prop_assert_eq!(apply(&base, &deltas, &dropped).unwrap(), next);
    }

    #[test]
    fn nothing_changed_is_an_empty_delta(base in some_shards()) {
        prop_assert_eq!(diff(&base, &base.clone()).unwrap(), (Vec::new(), Vec::new()));
    }
}

/// One step's shards over `width` subtasks with `tables` tables each.
fn big(width: u32, tables: u64) -> Vec<VersionRecord> {
    let shard = |index| {
        let (start, end) = (index * GROUPS / width, (index + 1) * GROUPS / width);
        let view = |seq| ViewRecord {
            name: format!("ab-g1-w{index}-{seq}.sst"),
            seq,
            group_start: start,
            group_end: end,
            ..ViewRecord::default()
        };
        let views = (0..tables).map(view).collect();
        VersionRecord {
            step: "a".into(),
            group_start: start,
            group_end: end,
            views,
            next_seq: tables,
        }
    };
    (0..width).map(shard).collect()
}

fn size(deltas: &[ShardDelta]) -> usize {
    deltas.iter().map(Message::encoded_len).sum()
}

#[test]
fn a_delta_grows_with_the_change_and_not_with_the_state() {
    let one_flush_at = |tables| {
        let base = shards(big(2, tables)).unwrap();
        let mut next = big(2, tables);
        next[0].views.push(ViewRecord {
            name: "new.sst".into(),
            group_end: 6,
            ..Default::default()
        });
        let (deltas, dropped) = diff(&base, &shards(next).unwrap()).unwrap();
        assert!(dropped.is_empty());
        size(&deltas)
    };
    // A few bytes more for greater numbers.
    assert!(one_flush_at(10_000) <= one_flush_at(10) + 8);
}

#[test]
fn cutting_anew_without_a_change_lists_no_view() {
    let base = shards(big(2, 1_000)).unwrap();
    // Each half becomes two quarters: the same tables, clipped.
    let clipped = base.values().flat_map(|old| {
        let middle = u32::midpoint(old.group_start, old.group_end);
        [(old.group_start, middle), (middle, old.group_end)].map(|(group_start, group_end)| {
            let clip = |view: &ViewRecord| ViewRecord { group_start, group_end, ..view.clone() };
            let views = old.views.iter().map(clip).collect();
            VersionRecord { group_start, group_end, views, ..(**old).clone() }
        })
    });
    let next = shards(clipped).unwrap();
    let (deltas, dropped) = diff(&base, &next).unwrap();
    assert_eq!((deltas.len(), dropped.len()), (4, 2));
    assert!(deltas.iter().all(|delta| delta.added.is_empty() && delta.removed.is_empty()));
    assert_eq!(apply(&base, &deltas, &dropped).unwrap(), next);
}

#[test]
fn shards_that_make_no_sense_are_refused() {
    let twice = [version("a", 0, 6, &[]), version("a", 3, 12, &[])];
    assert!(matches!(shards(twice), Err(DeltaError::Overlap { .. })));
    assert!(matches!(shards([version("a", 6, 6, &[])]), Err(DeltaError::NoRange { .. })));
    let mut doubled = version("a", 0, 6, &[(1, 0, 0)]);
    doubled.views.push(doubled.views[0].clone());
    assert!(matches!(shards([doubled]), Err(DeltaError::Twice { .. })));
}
