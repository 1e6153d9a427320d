//! What must not grow: bytes with the state, files with the checkpoints, requests with time,
//! memory with a slow store; and what must happen at once: requests of a batch.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use object_store::path::Path;
use weir_runtime::sim::store::{SimStore, SimStoreSettings};
use weir_runtime::{clock, random, sim};
use weir_state::ids::{CheckpointId, Generation, KeyGroup, KeyGroupRange};
use weir_state::key::{StateId, StateKey};
use weir_state::names::ObjectNamer;
use weir_state::shard::{FILES_MAX, Shard, ShardSpec};
use weir_state::store::{Settings, StateStore};
use weir_state::version::Version;
use weir_state::version::record::VersionRecord;

const GROUPS: u16 = 128;
const RANGE: KeyGroupRange = KeyGroupRange { start: 0, end: GROUPS };

fn key(number: u64) -> StateKey {
    let user = number.to_be_bytes();
    StateKey::new(KeyGroup::of_key(&user, GROUPS), StateId(0), &user, b"")
}

/// Not compressible, so that bytes count.
fn value(number: u64, bytes: usize) -> Bytes {
    let mixed = |word: u64| {
        let mixed = (number + word.rotate_left(32) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes()
    };
    (0..).flat_map(mixed).take(bytes).collect::<Vec<u8>>().into()
}

fn sim_store(milliseconds: u64) -> SimStore {
    let latency = Duration::from_millis(milliseconds);
    SimStore::new(SimStoreSettings::with_latency(1, latency, latency))
}

fn open(
    sim: &SimStore,
    settings: Settings,
    record: Option<&VersionRecord>,
) -> (Arc<StateStore>, Shard) {
    let store = StateStore::new(Arc::new(sim.clone()), Path::from("job/1-a"), settings);
    let namer = ObjectNamer::new(Generation(1), "w");
    let version = Version::restore("s", RANGE, record.map_or(&[], std::slice::from_ref)).unwrap();
    let spec = ShardSpec { step: "s".into(), range: RANGE, namer };
    let shard = Shard::open(&store, spec, version).unwrap();
    (store, shard)
}

async fn settle(shard: &mut Shard) {
    loop {
        shard.maintain().unwrap();
        if shard.is_idle() {
            return;
        }
        clock::sleep(Duration::from_millis(1)).await;
    }
}

async fn load(shard: &mut Shard, keys: u64, value_bytes: usize) {
    for number in 0..keys {
        shard.put(&key(number), value(number, value_bytes));
        if number % 1000 == 0 {
            shard.make_room().await.unwrap();
        }
    }
}

/// Loads so many keys, then gives the bytes of a checkpoint that changes 1,000 of them, and of all
/// that 20 such checkpoints wrote, compactions included.
fn bytes_of_change(keys: u64) -> (u64, u64) {
    sim::run(1, async {
        let sim = sim_store(0);
        // The load is several flushes, so its compactions are over before the changes come.
        let settings = Settings { memtable_bytes: 8 << 20, ..Settings::default() };
        let (store, mut shard) = open(&sim, settings, None);
        load(&mut shard, keys, 16).await;
        let loaded = shard.checkpoint(CheckpointId(1)).await.unwrap();
        assert!(loaded.bytes_written > keys * 16);
        settle(&mut shard).await;
        let before = store.counters().bytes_written;
        let mut changed = 0;
        for round in 0..20 {
            for number in 0..1000 {
                let spread = number * (keys / 1000);
                shard.put(&key(spread), value(spread + round, 16));
            }
            let done = shard.checkpoint(CheckpointId(2 + round)).await.unwrap();
            changed = done.bytes_written;
            settle(&mut shard).await;
        }
        (changed, store.counters().bytes_written - before)
    })
}

#[test]
fn bytes_of_a_checkpoint_grow_with_the_change_alone() {
    let (small, small_with_compactions) = bytes_of_change(1_000);
    let (large, large_with_compactions) = bytes_of_change(1_000_000);
    assert!(large < small * 3 / 2, "{small} and {large} bytes");
    assert!(
        large_with_compactions < small_with_compactions * 3,
        "{small_with_compactions} and {large_with_compactions} bytes"
    );
}

#[test]
fn files_stay_few_over_a_thousand_checkpoints() {
    sim::run(1, async {
        let sim = sim_store(3);
        let (_, mut shard) = open(&sim, Settings::default(), None);
        let mut most = 0;
        for checkpoint in 0..1000 {
            shard.make_room().await.unwrap();
            for number in 0..50 {
                shard.put(&key((checkpoint * 31 + number) % 2000), value(checkpoint, 30));
            }
            let done = shard.checkpoint(CheckpointId(checkpoint)).await.unwrap();
            shard.maintain().unwrap();
            most = most.max(done.version.views.len()).max(shard.file_count());
        }
        assert!(most <= FILES_MAX, "{most} files");
        settle(&mut shard).await;
        assert!(shard.file_count() <= FILES_MAX / 2, "{} files at rest", shard.file_count());
    });
}

#[test]
fn an_idle_shard_makes_no_request() {
    sim::run(1, async {
        let sim = sim_store(1);
        let (_, mut shard) = open(&sim, Settings::default(), None);
        for checkpoint in 0..20 {
            load(&mut shard, 500, 30).await;
            shard.checkpoint(CheckpointId(checkpoint)).await.unwrap();
        }
        settle(&mut shard).await;
        let before = sim.calls();
        for checkpoint in 20..100 {
            clock::sleep(Duration::from_secs(60)).await;
            shard.make_room().await.unwrap();
            // One that cuts nothing writes nothing.
            let done = shard.checkpoint(CheckpointId(checkpoint)).await.unwrap();
            assert_eq!(done.bytes_written, 0);
        }
        assert_eq!(sim.calls(), before);
    });
}

#[test]
fn many_accesses_are_in_flight_and_few_after_each_other() {
    sim::run(1, async {
        let sim = sim_store(15);
        let (_, mut shard) = open(&sim, Settings::default(), None);
        load(&mut shard, 100_000, 100).await;
        let record = shard.checkpoint(CheckpointId(1)).await.unwrap().version;
        drop(shard);

        let settings = Settings { cache_bytes: 1 << 20, ..Settings::default() };
        let (store, shard) = open(&sim, settings, Some(&record));
        assert_eq!(store.counters().reads, 0, "opening makes no request");
        let start = clock::now();
        let first = shard.multi_get(&[key(5)]).wait().await.unwrap();
        assert_eq!(first, [Some(value(5, 100))]);
        assert!(start.elapsed() <= Duration::from_millis(3 * 15), "{:?}", start.elapsed());

        let start = clock::now();
        let batches = (0..64).map(|_| {
            let numbers: Vec<u64> = (0..64).map(|_| random::below(100_000)).collect();
            let keys: Vec<_> = numbers.iter().map(|number| key(*number)).collect();
            let get = shard.multi_get(&keys);
            async move {
                let values = get.wait().await?;
                for (number, found) in numbers.iter().zip(values) {
                    assert_eq!(found, Some(value(*number, 100)));
                }
                Ok::<_, weir_state::StateError>(())
            }
        });
        try_join_all(batches).await.unwrap();
        assert!(sim.in_flight_max() > 100, "{} in flight", sim.in_flight_max());
        assert!(start.elapsed() <= Duration::from_millis(4 * 15), "{:?}", start.elapsed());
        assert!(store.cache_bytes() <= 1 << 20);
    });
}

#[test]
fn equal_reads_at_once_are_one_request() {
    sim::run(1, async {
        let sim = sim_store(15);
        let (_, mut shard) = open(&sim, Settings::default(), None);
        load(&mut shard, 1000, 100).await;
        let record = shard.checkpoint(CheckpointId(1)).await.unwrap().version;
        let (store, shard) = open(&sim, Settings::default(), Some(&record));
        let gets = (0..50).map(|_| shard.multi_get(&[key(1), key(2)]).wait());
        try_join_all(gets).await.unwrap();
        // The tail, and at most one range for each key.
        assert!(store.counters().reads <= 3, "{:?}", store.counters());
        assert!(shard.multi_get(&[key(1), key(2)]).is_ready());
    });
}

#[test]
fn a_slow_store_holds_writers_back() {
    sim::run(1, async {
        let sim = sim_store(2000);
        let limit = 64 << 10;
        let settings = Settings { memtable_bytes: limit, ..Settings::default() };
        let (_, mut shard) = open(&sim, settings, None);
        for batch in 0..200 {
            shard.make_room().await.unwrap();
            for number in 0..100 {
                shard.put(&key(batch * 100 + number), value(number, 100));
            }
            // One batch beyond.
            let most = limit + limit / 2 + 100 * 300;
            assert!(shard.memtable_bytes() < most, "{} bytes", shard.memtable_bytes());
        }
        assert!(shard.file_count() > 0);
    });
}

/// Windows of a whole hour close at once, and thousands have fired before: none is passed over.
#[test]
fn timers_behind_many_fired_ones_are_found() {
    sim::run(1, async {
        let sim = sim_store(1);
        let settings =
            Settings { memtable_bytes: 100_000, block_bytes: 500, ..Settings::default() };
        let (_, mut shard) = open(&sim, settings, None);
        for number in 0..6000u64 {
            let user = number.to_be_bytes();
            let time = if number < 5000 { 1000 } else { 2000 };
            shard.set_timer(KeyGroup::of_key(&user, 4), time, &user, b"");
            shard.make_room().await.unwrap();
        }
        for (up_to, expected) in [(999, 0), (1999, 5000), (1999, 0), (2000, 1000)] {
            let mut fired = 0;
            loop {
                let due = shard.due_timers(up_to, 100).wait().await.unwrap();
                assert!(!due.timers.is_empty() || !due.more);
                assert!(due.timers.len() <= 100);
                if due.timers.is_empty() {
                    break;
                }
                for timer in &due.timers {
                    shard.clear_timer(timer.group, timer.time_ms, &timer.key, &timer.namespace);
                }
                fired += due.timers.len();
                shard.make_room().await.unwrap();
            }
            assert_eq!(fired, expected, "up to {up_to}");
        }
        assert_eq!(shard.next_timer_ms(), i64::MAX);
    });
}

#[test]
fn large_files_are_cut_at_key_groups_and_neighbours_are_read_together() {
    sim::run(1, async {
        let sim = sim_store(1);
        let settings = Settings { table_bytes: 100_000, block_bytes: 1000, ..Settings::default() };
        let (_, mut shard) = open(&sim, settings.clone(), None);
        load(&mut shard, 5000, 100).await;
        let record = shard.checkpoint(CheckpointId(1)).await.unwrap().version;
        assert!(record.views.len() >= 5, "{} files", record.views.len());
        for pair in record.views.windows(2) {
            assert!(pair[0].group_end <= pair[1].group_start, "a key group lies in two files");
        }
        let (store, shard) = open(&sim, settings, Some(&record));
        let keys: Vec<StateKey> = (0..5000).map(key).collect();
        let values = shard.multi_get(&keys).wait().await.unwrap();
        assert!(values.iter().zip(0..).all(|(found, number)| *found == Some(value(number, 100))));
        // Of each file the tail and all blocks.
        assert_eq!(store.counters().reads, 2 * record.views.len() as u64);
    });
}

/// Blocks that may be wanted later took the place of the one that was wanted, again and again.
#[test]
fn a_key_in_many_files_is_read_where_one_block_is_all_the_room() {
    sim::run(1, async {
        let sim = sim_store(1);
        let settings = no_room();
        let (_, mut shard) = open(&sim, settings.clone(), None);
        for round in 1..=2 {
            load_round(&mut shard, round);
            shard.checkpoint(CheckpointId(round)).await.unwrap();
        }
        load_round(&mut shard, 3);
        let record = shard.checkpoint(CheckpointId(3)).await.unwrap().version;
        assert!(record.views.len() >= 3, "{} files", record.views.len());
        let (_, shard) = open(&sim, settings, Some(&record));
        let keys: Vec<StateKey> = (0..50).map(key).collect();
        let read = clock::timeout(Duration::from_secs(60), shard.multi_get(&keys).wait()).await;
        let values = read.expect("the read goes on").unwrap();
        assert!(values.iter().zip(300..).all(|(found, number)| *found == Some(value(number, 100))));
    });
}

/// Whoever asked may wait for something that waits for another read.
#[test]
fn a_read_that_nobody_polls_keeps_no_other_one_waiting() {
    sim::run(1, async {
        let sim = sim_store(1);
        let settings = no_room();
        let (_, mut shard) = open(&sim, settings.clone(), None);
        load_round(&mut shard, 1);
        let record = shard.checkpoint(CheckpointId(1)).await.unwrap().version;
        let (_, shard) = open(&sim, settings, Some(&record));
        let mut first = Box::pin(shard.multi_get(&[key(1)]).wait());
        assert!(futures::poll!(&mut first).is_pending());
        let second = shard.multi_get(&[key(2)]).wait();
        let second = clock::timeout(Duration::from_secs(60), second).await;
        assert_eq!(second.expect("it has room").unwrap(), [Some(value(102, 100))]);
        assert_eq!(first.await.unwrap(), [Some(value(101, 100))]);
    });
}

/// Room for one block at a time, and nothing stays.
fn no_room() -> Settings {
    let (cache_bytes, bytes_in_flight_max, block_bytes) = (1000, 1000, 2000);
    Settings { cache_bytes, bytes_in_flight_max, block_bytes, ..Settings::default() }
}

fn load_round(shard: &mut Shard, round: u64) {
    for number in 0..50 {
        shard.put(&key(number), value(round * 100 + number, 100));
    }
}

#[test]
fn a_value_larger_than_every_limit_passes() {
    sim::run(1, async {
        let sim = sim_store(1);
        let settings = Settings {
            cache_bytes: 1000,
            memtable_bytes: 1000,
            bytes_in_flight_max: 1000,
            table_bytes: 1000,
            ..Settings::default()
        };
        let (_, mut shard) = open(&sim, settings.clone(), None);
        let large = value(1, 3 << 20);
        shard.put(&key(1), large.clone());
        shard.put(&key(2), value(2, 10));
        let record = shard.checkpoint(CheckpointId(1)).await.unwrap().version;
        let (store, shard) = open(&sim, settings, Some(&record));
        let values = shard.multi_get(&[key(2), key(1)]).wait().await.unwrap();
        assert_eq!(values, [Some(value(2, 10)), Some(large)]);
        assert!(store.cache_bytes() <= 1000);
    });
}
