//! Values as the first release with these formats stored them (docs/design/0009) are read, written
//! the same again, and damage is refused.

use bytes::Bytes;
use weir_expr::Aggregates;

use crate::execution::keyed::group::Group;
use crate::execution::keyed::sessions;
use crate::pipeline::check::{check, tests as declare};
use crate::pipeline::checked::{CheckedVerb, SourceSchemas};

/// Two rows, in the state of `count(*)`.
const TWO: [u8; 3] = [1, 1, 2];
/// At times 5 and 9, and at −1.
#[rustfmt::skip]
const SESSIONS: [u8; 47] = [
    1,
    255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255,
    0, 0, 0, 3, 1, 1, 1,
    0, 0, 0, 0, 0, 0, 0, 5,
    0, 0, 0, 0, 0, 0, 0, 9,
    0, 0, 0, 3, 1, 1, 2,
];

fn count() -> Aggregates {
    let steps = vec![
        declare::step("rows", &[], declare::keys()),
        declare::step("n", &["rows"], declare::aggregate(&["key"], &["count(*) as n"])),
        declare::step("out", &["n"], declare::blackhole()),
    ];
    let job = check(&declare::job(steps), &SourceSchemas::new()).expect("a sound job");
    match &job.steps[1].verb {
        CheckedVerb::Aggregate(aggregate) => aggregate.aggregates.clone(),
        _ => unreachable!(),
    }
}

#[test]
fn groups_come_back() {
    let count = count();
    let plain = [&[0][..], &TWO].concat();
    let written = [&[1, 0, 0, 0, 0, 0, 0, 1, 2][..], &TWO].concat();
    for (bytes, written_ms) in [(plain, None), (written, Some(258))] {
        let group = Group::decode(&count, &Bytes::from(bytes.clone())).unwrap();
        assert_eq!(group.written_ms, written_ms);
        let mut again = Vec::new();
        group.encode(&count, &mut again);
        assert_eq!(again, bytes);
        for length in 0..bytes.len() {
            let cut = Bytes::copy_from_slice(&bytes[..length]);
            assert!(Group::decode(&count, &cut).is_err(), "{length} bytes");
        }
    }
    let newer = Group::decode(&count, &Bytes::from_static(&[2, 1, 1, 2])).unwrap_err();
    assert!(newer.contains("unknown flags 0x02"), "{newer}");
}

#[test]
fn sessions_come_back() {
    let count = count();
    let stored = sessions::decode(&count, &SESSIONS).unwrap();
    let times: Vec<_> = stored.iter().map(|session| (session.first_ms, session.last_ms)).collect();
    assert_eq!(times, [(-1, -1), (5, 9)]);
    let mut again = Vec::new();
    sessions::encode(&count, &stored, &mut again);
    assert_eq!(again, SESSIONS);
    let whole = |length: usize| length == 1 || length == 24 || length == SESSIONS.len();
    for length in 0..=SESSIONS.len() {
        let read = sessions::decode(&count, &SESSIONS[..length]);
        assert_eq!(read.is_ok(), whole(length), "{length} bytes");
    }
    let newer = sessions::decode(&count, &[2]).unwrap_err();
    assert_eq!(newer, "sessions in version 2, this release reads 1");
}
