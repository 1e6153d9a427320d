//! Damaged, cut, missing and newer objects, refused writes and stores that do not answer: each is
//! an error that names the object, and never data.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use weir_runtime::sim;
use weir_runtime::sim::store::{FaultRates, SimStore, SimStoreSettings};
use weir_state::ids::{CheckpointId, Generation, KeyGroup, KeyGroupRange};
use weir_state::key::{StateId, StateKey};
use weir_state::names::ObjectNamer;
use weir_state::shard::{Shard, ShardSpec};
use weir_state::store::{Settings, StateStore};
use weir_state::version::Version;
use weir_state::version::record::VersionRecord;
use weir_state::{Remedy, StateError};

use crate::store_world::object_path;

const RANGE: KeyGroupRange = KeyGroupRange { start: 0, end: 4 };
const KEYS: u16 = 30;

fn key(number: u16) -> StateKey {
    StateKey::new(KeyGroup(number % 4), StateId(0), &number.to_be_bytes(), b"")
}

fn value(number: u16) -> Bytes {
    vec![number.to_le_bytes()[0]; usize::from(number % 7)].into()
}

fn open(sim: &SimStore, record: Option<&VersionRecord>) -> Shard {
    let settings = Settings { block_bytes: 100, retry_max_ms: 500, ..Settings::default() };
    let store = StateStore::new(Arc::new(sim.clone()), Path::from("job/1-a"), settings);
    let namer = ObjectNamer::new(Generation(1), "w");
    let version = Version::restore("s", RANGE, record.map_or(&[], std::slice::from_ref)).unwrap();
    Shard::open(&store, ShardSpec { step: "s".into(), range: RANGE, namer }, version).unwrap()
}

/// A store with one small table file, whose record, path and bytes it gives.
async fn written() -> (SimStore, VersionRecord, Path, Bytes) {
    let sim = SimStore::new(SimStoreSettings::instant(1));
    let mut shard = open(&sim, None);
    (0..KEYS).for_each(|number| shard.put(&key(number), value(number)));
    let record = shard.checkpoint(CheckpointId(1)).await.unwrap().version;
    assert_eq!(record.views.len(), 1);
    let path = object_path(&record.views[0].name);
    let bytes = sim.peek(&path).unwrap();
    (sim, record, path, bytes)
}

/// Reads every key by itself; what is answered must be right. Gives the errors.
async fn read_all(sim: &SimStore, record: &VersionRecord) -> Vec<StateError> {
    let shard = open(sim, Some(record));
    let mut errors = Vec::new();
    for number in 0..KEYS {
        match shard.multi_get(&[key(number)]).wait().await {
            Ok(values) => assert_eq!(values, [Some(value(number))]),
            Err(error) => errors.push(error),
        }
    }
    errors
}

#[test]
fn every_damaged_byte_is_named_and_never_read() {
    sim::run(1, async {
        let (sim, record, path, bytes) = written().await;
        assert!(read_all(&sim, &record).await.is_empty());
        for position in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[position] ^= 0x20;
            sim.plant(&path, damaged);
            let errors = read_all(&sim, &record).await;
            assert!(!errors.is_empty(), "byte {position} is not checked");
            for error in errors {
                let StateError::Damaged { object, offset, expected, found } = &error else {
                    panic!("byte {position}: {error}");
                };
                assert_eq!(object, path.as_ref());
                assert!(*offset <= position as u64 && expected != found, "{error}");
                assert_eq!(error.remedy(), Remedy::AskHuman);
            }
        }
    });
}

#[test]
fn a_scan_and_a_compaction_refuse_damage_too() {
    sim::run(1, async {
        let (sim, record, path, bytes) = written().await;
        let mut damaged = bytes.to_vec();
        damaged[10] ^= 1;
        sim.plant(&path, damaged);
        let error = open(&sim, Some(&record)).scan().next_chunk().await.unwrap_err();
        assert!(matches!(error, StateError::Damaged { offset: 0, .. }), "{error}");

        let mut shard = open(&sim, Some(&record));
        let failed = async {
            for checkpoint in 0..20 {
                shard.put(&key(1), value(1));
                shard.checkpoint(CheckpointId(checkpoint)).await?;
                shard.make_room().await?;
                weir_runtime::clock::sleep(Duration::from_millis(1)).await;
            }
            Ok::<_, StateError>(())
        };
        let error = failed.await.unwrap_err();
        assert!(matches!(error, StateError::Damaged { offset: 0, .. }), "{error}");
    });
}

#[test]
fn a_cut_object_is_damage() {
    sim::run(1, async {
        let (sim, record, path, bytes) = written().await;
        for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            sim.plant(&path, bytes.slice(..length));
            let error = read_all(&sim, &record).await.remove(0);
            let expected = format!(
                "state object {path} is damaged at byte {length}: expected an object of {} bytes, \
                 found {length} bytes",
                bytes.len()
            );
            assert_eq!(error.to_string(), expected);
        }
    });
}

#[test]
fn a_missing_object_is_named() {
    sim::run(1, async {
        let (sim, record, path, _) = written().await;
        sim.uproot(&path);
        let error = read_all(&sim, &record).await.remove(0);
        let expected =
            format!("state object {path} is named by a checkpoint but is not in the store");
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.remedy(), Remedy::AskHuman);
    });
}

#[test]
fn a_newer_format_is_refused_by_name() {
    sim::run(1, async {
        let (sim, record, path, bytes) = written().await;
        let mut newer = bytes.to_vec();
        let at = newer.len() - 16;
        newer[at..at + 4].copy_from_slice(&2u32.to_le_bytes());
        newer[at + 4..at + 8].copy_from_slice(&(!2u32).to_le_bytes());
        sim.plant(&path, newer);
        let error = read_all(&sim, &record).await.remove(0);
        let expected = format!(
            "state object {path} has table format 2, this Weir reads up to 1: use a newer Weir"
        );
        assert_eq!(error.to_string(), expected);
    });
}

#[test]
fn a_full_disk_fails_the_checkpoint_by_name() {
    sim::run(1, async {
        let (sim, record, ..) = written().await;
        sim.set_capacity_bytes(Some(10));
        let mut shard = open(&sim, Some(&record));
        shard.put(&key(1), Bytes::from_static(b"new"));
        let error = shard.checkpoint(CheckpointId(2)).await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("cannot write state object job/1-a/objects/"), "{text}");
        assert!(text.contains(".table (attempts: "), "{text}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("space"), "{source}");
        assert_eq!(error.remedy(), Remedy::Restart);
        // What the flush held is still there to be read, and the shard says what is wrong.
        let values = shard.multi_get(&[key(1), key(2)]).wait().await.unwrap();
        assert_eq!(values, [Some(Bytes::from_static(b"new")), Some(value(2))]);
        assert_eq!(shard.maintain().unwrap_err().to_string(), text);
    });
}

#[test]
fn a_store_that_fails_for_good_is_named_after_all_attempts() {
    sim::run(1, async {
        let (sim, record, path, _) = written().await;
        sim.set_faults(FaultRates { error_before: 1000, ..FaultRates::default() });
        let error = read_all(&sim, &record).await.remove(0);
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("cannot read state object {path} (attempts: ")),
            "{text}"
        );
        let StateError::Store { attempts, .. } = error else { panic!("{error:?}") };
        assert!((3..10).contains(&attempts), "{attempts} attempts in half a second");
        assert_eq!(error.remedy(), Remedy::Restart);
    });
}

#[test]
fn a_store_that_never_answers_has_a_deadline() {
    sim::run(1, async {
        let (sim, record, path, bytes) = written().await;
        let hour = Duration::from_secs(3600);
        let slow = SimStore::new(SimStoreSettings::with_latency(1, hour, hour));
        slow.plant(&path, bytes);
        let error = read_all(&slow, &record).await.remove(0);
        let expected =
            format!("cannot read state object {path}: no answer within 30000 ms (attempts: 1)");
        assert_eq!(error.to_string(), expected);
        drop(sim);
    });
}

#[test]
fn a_record_that_is_no_version_is_refused() {
    sim::run(1, async {
        let (_, mut record, ..) = written().await;
        record.views[0].group_end = 9;
        let error = Version::from_record(&record).unwrap_err();
        let expected = format!(
            "state version of step s is not valid: {} has key groups 0..9 outside 0..4",
            record.views[0].name
        );
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.remedy(), Remedy::AskHuman);
    });
}
