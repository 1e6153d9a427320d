//! Tests of versions as values.

use bytes::Bytes;

use super::*;
use crate::ids::KeyGroup;
use crate::key::{StateId, StateKey};

fn key(group: u16) -> Bytes {
    StateKey::new(KeyGroup(group), StateId(0), b"k", b"").composite().clone()
}

fn view(name: &str, groups: (u16, u16), level: u32, seq: u64) -> View {
    let meta = TableMeta {
        name: name.to_owned(),
        bytes: 1000,
        entries: 10,
        tail_bytes: 100,
        first_key: key(groups.0),
        last_key: key(groups.1),
    };
    View::whole(TableHandle::recorded(meta), level, seq)
}

fn version(range: (u16, u16), views: Vec<View>) -> Version {
    let range = KeyGroupRange { start: range.0, end: range.1 };
    let mut version = Version { step: "s".to_owned(), range, views, next_seq: 10 };
    version.sort();
    version
}

fn names(version: &Version) -> Vec<String> {
    let name = |view: &View| format!("{} L{} {}", view.table.name, view.level, view.range);
    version.views.iter().map(name).collect()
}

#[test]
fn views_are_ordered_by_level_then_age_or_key() {
    let views = vec![
        view("c", (4, 7), 1, 3),
        view("a", (0, 7), 0, 5),
        view("b", (0, 3), 1, 3),
        view("d", (0, 7), 0, 6),
    ];
    let version = version((0, 8), views);
    assert_eq!(names(&version), ["d L0 0..8", "a L0 0..8", "b L1 0..4", "c L1 4..8"]);
    assert_eq!(version.check(), Ok(()));
    let mut found = Vec::new();
    version.candidates(&key(5), &mut found);
    assert_eq!(found, [0, 1, 3]);
}

#[test]
fn broken_rules_are_named() {
    let check = |views, expected: &str| {
        let problem = version((0, 8), views).check().unwrap_err();
        assert!(problem.contains(expected), "{problem}");
    };
    check(vec![view("a", (0, 4), 1, 1), view("b", (4, 7), 1, 2)], "a and b overlap in level 1");
    check(vec![view("a", (0, 9), 0, 1)], "a has key groups 0..10 outside 0..8");
    check(vec![view("a", (0, 7), 0, 10)], "a has seq 10, next is 10");
    check(vec![view("a", (0, 7), 7, 1)], "a lies in level 7 of 6");
    check(vec![view("a", (0, 4), 0, 1), view("b", (4, 7), 0, 1)], "a and b overlap in level 0");
    check(vec![view("a", (4, 2), 0, 1)], "a");
}

#[test]
fn clip_and_merge_give_the_same_version_back() {
    let views = vec![
        view("a", (0, 7), 0, 5),
        view("b", (1, 2), 0, 6),
        view("c", (0, 3), 1, 3),
        view("d", (4, 7), 1, 3),
    ];
    let whole = version((0, 8), views);
    for border in 1..8 {
        let left = whole.clip(KeyGroupRange { start: 0, end: border }).unwrap();
        let right = whole.clip(KeyGroupRange { start: border, end: 8 }).unwrap();
        assert_eq!(left.check(), Ok(()));
        assert_eq!(right.check(), Ok(()));
        assert!(left.bytes() + right.bytes() <= whole.bytes());
        let merged = Version::merge(vec![right, left]).unwrap();
        assert_eq!(names(&merged), names(&whole));
    }
}

#[test]
fn records_give_the_same_version_back() {
    let whole = version((0, 8), vec![view("a", (0, 7), 0, 5), view("b", (0, 3), 1, 3)]);
    let half = whole.clip(KeyGroupRange { start: 2, end: 6 }).unwrap();
    for version in [whole, half] {
        let back = Version::from_record(&version.to_record()).unwrap();
        assert_eq!(names(&back), names(&version));
        assert_eq!(back.to_record(), version.to_record());
    }
}

#[test]
fn restore_clips_and_merges_the_records_of_its_step() {
    let record = |name, range: (u16, u16)| {
        version(range, vec![view(name, (range.0, range.1 - 1), 0, 5)]).to_record()
    };
    let records = [record("a", (0, 4)), record("b", (4, 8))];
    let range = KeyGroupRange { start: 2, end: 6 };
    let restored = Version::restore("s", range, &records).unwrap();
    assert_eq!(restored.range(), range);
    assert_eq!(restored.file_count(), 2);
    assert_eq!(Version::restore("new", range, &records).unwrap().file_count(), 0);
    let error = Version::restore("s", range, &records[..1]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "state version of step s is not valid: records hold key groups 2..4 of 2..6"
    );
}

#[test]
fn replacing_needs_live_inputs() {
    let (a, b) = (view("a", (0, 7), 0, 5), view("b", (0, 7), 0, 6));
    let old = version((0, 8), vec![a.clone(), b.clone()]);
    let new = old.with_replaced(&[a.clone(), b], &[view("c", (0, 7), 1, 6)]).unwrap().unwrap();
    assert_eq!(names(&new), ["c L1 0..8"]);
    assert!(new.with_replaced(&[a], &[]).unwrap().is_none());
}
