//! The simulated store behaves as a store, and its faults as their names say.

use object_store::{ObjectStore, ObjectStoreExt, PutPayload, UpdateVersion};

use super::*;
use crate::{random, sim, task};

const MS: Duration = Duration::from_millis(1);

fn store(settings: SimStoreSettings) -> SimStore {
    SimStore::new(settings)
}

async fn create(store: &SimStore, path: &str, text: &'static str) -> Result<PutResult> {
    let bytes = PutPayload::from_static(text.as_bytes());
    store.put_opts(&Path::from(path), bytes, PutMode::Create.into()).await
}

async fn read(store: &SimStore, path: &str) -> Result<Bytes> {
    store.get(&Path::from(path)).await?.bytes().await
}

#[test]
fn a_store_without_faults_behaves_as_one() {
    sim::run(1, async {
        let store = store(SimStoreSettings::with_latency(1, MS, 9 * MS));
        create(&store, "a/1", "one").await.unwrap();
        create(&store, "a/b/2", "two").await.unwrap();
        create(&store, "ab/3", "three").await.unwrap();
        let refused = create(&store, "a/1", "other").await.unwrap_err();
        assert!(matches!(refused, Error::AlreadyExists { .. }), "{refused}");
        assert_eq!(read(&store, "a/1").await.unwrap(), "one");

        let range = store.get_range(&Path::from("ab/3"), 1..3).await.unwrap();
        assert_eq!(range, "hr");
        let ranges = store.get_ranges(&Path::from("ab/3"), &[0..1, 3..99]).await.unwrap();
        assert_eq!(ranges, ["t", "ee"]);
        assert!(store.get_range(&Path::from("ab/3"), 5..6).await.is_err());
        assert_eq!(store.head(&Path::from("ab/3")).await.unwrap().size, 5);

        let list = |prefix| store.list(Some(&Path::from(prefix))).map_ok(|meta| meta.location);
        let listed: Vec<Path> = list("a").try_collect().await.unwrap();
        assert_eq!(listed, [Path::from("a/1"), Path::from("a/b/2")]);
        let folder = store.list_with_delimiter(Some(&Path::from("a"))).await.unwrap();
        assert_eq!(folder.common_prefixes, [Path::from("a/b")]);
        assert_eq!(folder.objects.len(), 1);

        store.copy(&Path::from("a/1"), &Path::from("c")).await.unwrap();
        let again = store.copy_if_not_exists(&Path::from("ab/3"), &Path::from("c")).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })));
        store.delete(&Path::from("a/1")).await.unwrap();
        assert!(matches!(read(&store, "a/1").await, Err(Error::NotFound { .. })));
        assert_eq!(read(&store, "c").await.unwrap(), "one");
        assert_eq!(store.in_flight(), 0);
    });
}

#[test]
fn an_upload_in_parts_appears_whole_at_its_end() {
    sim::run(1, async {
        let store = store(SimStoreSettings::with_latency(1, MS, 9 * MS));
        let mut upload = store.put_multipart(&Path::from("big")).await.unwrap();
        let parts = [upload.put_part("first ".into()), upload.put_part("second".into())];
        futures::future::try_join_all(parts).await.unwrap();
        assert!(store.names().is_empty());
        upload.complete().await.unwrap();
        assert_eq!(read(&store, "big").await.unwrap(), "first second");
    });
}

#[test]
fn a_conditional_update_needs_the_tag() {
    sim::run(1, async {
        let store = store(SimStoreSettings::instant(1));
        let first = create(&store, "a", "one").await.unwrap();
        let path = Path::from("a");
        let update = |version: UpdateVersion| {
            store.put_opts(&path, "two".into(), PutMode::Update(version).into())
        };
        update(first.clone().into()).await.unwrap();
        assert!(matches!(update(first.into()).await, Err(Error::Precondition { .. })));
    });
}

#[test]
fn racing_creates_of_one_name_have_one_winner() {
    for seed in 0..50 {
        sim::run(seed, async {
            let store = store(SimStoreSettings::with_latency(seed, MS, 50 * MS));
            let racers = (0..8).map(|_| create(&store, "claim", "mine"));
            let results = futures::future::join_all(racers).await;
            assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
            assert_eq!(store.in_flight_max(), 8);
        });
    }
}

#[test]
fn faults_do_what_their_names_say() {
    sim::run(3, async {
        let store = store(SimStoreSettings::with_latency(3, MS, 2 * MS));
        let plan = |nth, fault| store.plan(Planned::nth_of(Operation::Create, nth, fault));
        plan(1, Fault::ErrorBefore);
        plan(2, Fault::LostAnswer);
        plan(3, Fault::Late(100 * MS));
        plan(4, Fault::ExistsWithoutLanding);
        plan(5, Fault::DiskFull);

        create(&store, "before", "x").await.unwrap_err();
        assert!(read(&store, "before").await.is_err());
        create(&store, "lost", "x").await.unwrap_err();
        assert_eq!(read(&store, "lost").await.unwrap(), "x");
        create(&store, "late", "x").await.unwrap_err();
        assert!(read(&store, "late").await.is_err());
        clock::sleep(100 * MS).await;
        assert_eq!(read(&store, "late").await.unwrap(), "x");
        let exists = create(&store, "exists", "x").await.unwrap_err();
        assert!(matches!(exists, Error::AlreadyExists { .. }));
        assert!(matches!(read(&store, "exists").await, Err(Error::NotFound { .. })));
        let full = create(&store, "full", "x").await.unwrap_err();
        assert!(format!("{full:?}").contains("StorageFull"), "{full:?}");
        create(&store, "fine", "x").await.unwrap();
    });
}

#[test]
fn a_crash_ends_the_caller_before_or_after_the_effect() {
    for (fault, landed) in [(Fault::CrashBefore, false), (Fault::CrashAfter, true)] {
        sim::run(4, async {
            let store = store(SimStoreSettings::with_latency(4, MS, 2 * MS));
            store.plan(Planned::nth_call(1, fault));
            let process = Process::new("writer", 0);
            let writer = store.clone();
            let written = process.spawn(async move { create(&writer, "a", "x").await.is_ok() });
            assert!(written.await.is_err(), "the task must not go on");
            assert!(process.is_killed());
            assert_eq!(store.peek(&Path::from("a")).is_some(), landed);
        });
    }
}

#[test]
fn a_late_write_lands_after_its_writer_was_killed() {
    sim::run(5, async {
        let store = store(SimStoreSettings::with_latency(5, MS, 2 * MS));
        store.plan(Planned::nth_call(1, Fault::Late(100 * MS)));
        let process = Process::new("writer", 0);
        let writer = store.clone();
        process.spawn(async move { create(&writer, "a", "x").await.is_ok() }).await.unwrap();
        process.kill();
        assert!(store.peek(&Path::from("a")).is_none());
        clock::sleep(200 * MS).await;
        assert!(store.peek(&Path::from("a")).is_some());
    });
}

#[test]
fn a_full_store_refuses_writes_until_something_goes() {
    sim::run(6, async {
        let settings = SimStoreSettings { capacity_bytes: Some(5), ..SimStoreSettings::instant(6) };
        let store = store(settings);
        create(&store, "a", "1234").await.unwrap();
        create(&store, "b", "12").await.unwrap_err();
        store.delete(&Path::from("a")).await.unwrap();
        create(&store, "b", "12").await.unwrap();
    });
}

#[test]
fn a_store_that_ignores_the_condition_can_be_had() {
    sim::run(7, async {
        let settings =
            SimStoreSettings { ignores_create_if_absent: true, ..SimStoreSettings::instant(7) };
        let store = store(settings);
        create(&store, "a", "1").await.unwrap();
        create(&store, "a", "2").await.unwrap();
    });
}

/// A busy run under faults; its trace.
fn busy_run(seed: u64) -> (u64, Vec<String>) {
    sim::run(seed, async {
        let faults =
            FaultRates { error_before: 50, lost_answer: 50, late: 50, ..Default::default() };
        let settings = SimStoreSettings::with_latency(random::u64(), MS, 30 * MS);
        let store = store(SimStoreSettings { faults, keep_trace: true, ..settings });
        let work = |worker: u64| {
            let store = store.clone();
            task::spawn(async move {
                for _ in 0..20 {
                    let path = format!("{}", random::below(10));
                    drop(create(&store, &path, "x").await);
                    drop(read(&store, &path).await);
                    clock::sleep(Duration::from_millis(random::below(5 + worker))).await;
                }
            })
        };
        futures::future::join_all((0..5).map(work)).await;
        clock::sleep(FaultRates::LATE_MAX).await;
        (store.trace_hash(), store.trace())
    })
}

#[test]
fn a_seed_repeats_its_run_exactly_and_seeds_differ() {
    let (hash, trace) = busy_run(11);
    assert!(trace.len() > 150);
    assert_eq!(busy_run(11), (hash, trace));
    let hashes: std::collections::BTreeSet<u64> = (0..20).map(|seed| busy_run(seed).0).collect();
    assert_eq!(hashes.len(), 20);
}
