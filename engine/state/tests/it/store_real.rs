//! The state store as a worker runs it: threads, real time, a folder on the local disk.

use std::sync::Arc;

use bytes::Bytes;
use weir_state::ids::{CheckpointId, Generation, KeyGroup, KeyGroupRange};
use weir_state::key::{StateId, StateKey};
use weir_state::names::ObjectNamer;
use weir_state::objects::{self, StoreOptions};
use weir_state::shard::{Shard, ShardSpec};
use weir_state::store::{Settings, StateStore};
use weir_state::version::Version;
use weir_state::version::record::VersionRecord;

const RANGE: KeyGroupRange = KeyGroupRange { start: 0, end: 16 };
const KEYS: u32 = 20_000;

fn key(number: u32) -> StateKey {
    let user = number.to_be_bytes();
    StateKey::new(KeyGroup::of_key(&user, 16), StateId(0), &user, b"w")
}

fn value(number: u32, round: u32) -> Bytes {
    format!("value {round} of {number}").into()
}

async fn open(folder: &str, record: Option<&VersionRecord>) -> (Arc<StateStore>, Shard) {
    let place = objects::open(folder, &StoreOptions::default()).await.unwrap();
    let settings =
        Settings { memtable_bytes: 200_000, cache_bytes: 500_000, ..Settings::default() };
    let store = StateStore::new(place.store, place.prefix.join("1-a"), settings);
    let namer = ObjectNamer::new(Generation(1), "w");
    let version = Version::restore("s", RANGE, record.map_or(&[], std::slice::from_ref)).unwrap();
    let spec = ShardSpec { step: "s".into(), range: RANGE, namer };
    let shard = Shard::open(&store, spec, version).unwrap();
    (store, shard)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_on_a_local_disk_survives_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let uri = folder.path().display().to_string();
    let mut record = None;
    for round in 0..3 {
        let (_, mut shard) = open(&uri, record.as_ref()).await;
        for number in (0..KEYS).filter(|number| number % (round + 1) == 0) {
            shard.put(&key(number), value(number, round));
            if number % 100 == 0 {
                shard.make_room().await.unwrap();
            }
        }
        let done = shard.checkpoint(CheckpointId(u64::from(round))).await.unwrap();
        record = Some(done.version);
    }
    let (store, shard) = open(&uri, record.as_ref()).await;
    let numbers: Vec<u32> = (0..KEYS).collect();
    for batch in numbers.chunks(64) {
        let keys: Vec<StateKey> = batch.iter().map(|number| key(*number)).collect();
        let values = shard.multi_get(&keys).wait().await.unwrap();
        for (number, found) in batch.iter().zip(values) {
            let round = (0..3).rev().find(|round| number % (round + 1) == 0).unwrap();
            assert_eq!(found, Some(value(*number, round)));
        }
    }
    assert!(store.cache_bytes() <= 500_000);

    // Clipped into halves, the sizes add up to the whole.
    let whole = Version::from_record(record.as_ref().unwrap()).unwrap();
    let half = |start, end| whole.clip(KeyGroupRange { start, end }).unwrap();
    let (left, right) = (half(0, 5), half(5, 16));
    let (all, left, right) = (
        store.size_of(&whole).await.unwrap(),
        store.size_of(&left).await.unwrap(),
        store.size_of(&right).await.unwrap(),
    );
    assert!(all.entries >= u64::from(KEYS) && left.entries > 0);
    assert_eq!(left.entries + right.entries, all.entries);
    assert_eq!(left.bytes + right.bytes, all.bytes);
}
