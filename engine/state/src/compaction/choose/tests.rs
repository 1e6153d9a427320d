//! Tests of the choice of compactions: plain values in, plain values out.

use bytes::Bytes;

use super::*;
use crate::ids::{KeyGroup, KeyGroupRange};
use crate::key::{StateId, StateKey};
use crate::version::{TableHandle, TableMeta};

const RANGE: KeyGroupRange = KeyGroupRange { start: 0, end: 100 };
const LEVEL_BYTES: u64 = 1000;

fn key(group: u16) -> Bytes {
    StateKey::new(KeyGroup(group), StateId(0), b"k", b"").composite().clone()
}

fn view(name: String, groups: (u16, u16), level: u32, seq: u64, bytes: u64) -> View {
    let (first_key, last_key) = (key(groups.0), key(groups.1));
    let meta = TableMeta { name, bytes, entries: 1, tail_bytes: 1, first_key, last_key };
    View::whole(TableHandle::recorded(meta), level, seq)
}

/// Level 0 with runs of these sizes (newest first) over all keys, and views of deeper levels.
fn version(runs: &[u64], deeper: &[(u32, (u16, u16), u64)]) -> Version {
    let mut version = Version::empty("s", RANGE);
    for (seq, bytes) in (1..).zip(runs.iter().rev()) {
        let flushed = view(format!("run-{seq}"), (0, 99), 0, seq, *bytes);
        version = version.with_flush(&[flushed]).unwrap();
    }
    let deeper: Vec<View> = (0..)
        .zip(deeper)
        .map(|(number, (level, groups, bytes))| {
            view(format!("deep-{number}"), *groups, *level, 0, *bytes)
        })
        .collect();
    version.with_replaced(&[], &deeper).unwrap().unwrap()
}

fn chosen(version: &Version) -> Option<(Vec<String>, u32, bool)> {
    let chosen = choose(version, LEVEL_BYTES)?;
    let names = chosen.inputs.iter().map(|view| view.table.name.clone()).collect();
    // Whatever is chosen can be installed: a merge into one file over the inputs' stretch.
    let first = chosen.inputs.iter().map(|view| view.range.start).min().unwrap();
    let last = chosen.inputs.iter().map(|view| view.range.end).max().unwrap() - 1;
    let output = view("output".to_owned(), (first, last), chosen.level, chosen.seq, 1);
    version.with_replaced(&chosen.inputs, &[output]).unwrap().unwrap();
    Some((names, chosen.level, chosen.is_bottom))
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn few_runs_and_small_levels_are_left_alone() {
    assert_eq!(chosen(&version(&[], &[])), None);
    assert_eq!(chosen(&version(&[10; 3], &[(1, (0, 99), 1000), (2, (0, 99), 10_000)])), None);
}

#[test]
fn runs_large_against_the_level_below_go_there() {
    let (inputs, level, is_bottom) = chosen(&version(&[10; 4], &[(1, (5, 20), 160)])).unwrap();
    assert_eq!((inputs.len(), level, is_bottom), (5, 1, true));
    let (.., is_bottom) = chosen(&version(&[10; 4], &[(2, (5, 20), 300)])).unwrap();
    assert!(!is_bottom);
}

#[test]
fn runs_of_like_size_small_against_the_level_below_merge_among_themselves() {
    let merged = |sizes: &[u64]| chosen(&version(sizes, &[(1, (0, 99), 900)]));
    let (inputs, level, is_bottom) = merged(&[1, 1, 1, 1, 20, 40]).unwrap();
    assert_eq!(inputs, names(&["run-6", "run-5", "run-4", "run-3"]));
    assert_eq!((level, is_bottom), (0, false));
    assert_eq!(merged(&[1, 1, 4, 4]), None);
    assert_eq!(merged(&[1, 1, 1, 1, 4, 4, 4]).unwrap().0.len(), 7);
}

#[test]
fn too_many_runs_become_fewer_whatever_their_sizes() {
    let sizes: Vec<u64> = (0..12).map(|run| 3u64.pow(run)).collect();
    assert_eq!(tier(&sizes), Some(2));
    assert_eq!(tier(&sizes[..11]), None);
}

#[test]
fn an_overfull_level_pushes_down_what_overlaps_least() {
    let deeper = [
        (1, (0, 49), 600),
        (1, (50, 99), 600),
        (2, (0, 10), 900),
        (2, (40, 60), 100),
        (3, (55, 56), 1),
    ];
    let (inputs, level, is_bottom) = chosen(&version(&[], &deeper)).unwrap();
    assert_eq!(inputs, names(&["deep-1", "deep-3"]));
    assert_eq!((level, is_bottom), (2, false));
}

#[test]
fn a_view_that_overlaps_nothing_is_moved() {
    let chosen = choose(&version(&[], &[(1, (0, 49), 2000)]), LEVEL_BYTES).unwrap();
    let moved = chosen.moved().unwrap();
    assert_eq!((moved.len(), moved[0].level), (1, 2));
    let chosen = choose(&version(&[10; 4], &[]), LEVEL_BYTES).unwrap();
    assert!(chosen.moved().is_none());
}

/// Flushes of any sizes never pile up: simulated with merges that keep all bytes.
#[test]
fn runs_stay_few_and_bytes_are_rewritten_seldom() {
    type Sizes = fn(u64) -> u64;
    let shapes: [(&str, Sizes); 4] = [
        ("alike", |number| 100 + number * 7919 % 400),
        ("uneven", |number| if number.is_multiple_of(10) { 5000 } else { 100 }),
        ("growing", |number| number + 1),
        ("shrinking", |number| 10_000 - number),
    ];
    for (shape, bytes_of_flush) in shapes {
        let mut runs: Vec<u64> = Vec::new();
        let (mut flushed, mut rewritten) = (0, 0);
        for number in 0..5000 {
            let bytes = bytes_of_flush(number);
            flushed += bytes;
            runs.insert(0, bytes);
            while let Some(newest) = (runs.len() >= TIER_RUNS).then(|| tier(&runs)).flatten() {
                let merged: u64 = runs.drain(..newest).sum();
                rewritten += merged;
                runs.insert(0, merged);
            }
            assert!(runs.len() < RUNS_MAX, "{shape}: {runs:?}");
        }
        assert!(rewritten < flushed * 8, "{shape}: {rewritten} rewritten of {flushed}");
    }
}
