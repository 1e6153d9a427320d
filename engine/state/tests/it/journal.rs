//! The journal from outside: claims, owners, lost numbers, bases, damage, old bytes, summaries.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;
use weir_runtime::sim;
use weir_runtime::sim::store::{Fault, Operation, Planned, SimStore, SimStoreSettings};
use weir_state::gc;
use weir_state::ids::{CheckpointId, Generation, Seq, Term};
use weir_state::journal::record::{
    Authority, NewGeneration, Piece, Plan, RangeWatermark, StepBytes, SubtaskPlace, WorkerAddress,
};
use weir_state::journal::{
    CompletedCheckpoint, Entry, Journal, JournalError, NewJob, Remedy, Root, pin, release_snapshot,
    summarize, unpin,
};
use weir_state::objects::{Place, StoreError};
use weir_state::version::record::{VersionRecord, ViewRecord};

fn root(store: &SimStore) -> Root {
    let store: Arc<dyn ObjectStore> = Arc::new(store.clone());
    Root::new(Place::new(store, Path::from("s"), "sim://s"))
}

fn new_job(owner: &str) -> NewJob {
    NewJob { job: "demo".into(), owner: owner.into(), key_groups: 8 }
}

async fn created(store: &SimStore) -> Journal {
    let mut journal = Journal::create(&root(store), &new_job("me"), None).await.unwrap();
    journal.claim("me", Authority::Owner).await.unwrap();
    journal
}

async fn opened(store: &SimStore) -> Journal {
    Journal::open(&root(store)).await.unwrap().unwrap()
}

fn plan(text: &'static str) -> Entry {
    Entry::Plan(Plan { pipeline: Bytes::from_static(text.as_bytes()), ..Plan::default() })
}

fn generation(number: u64, from: u64) -> Entry {
    let worker = WorkerAddress { incarnation: "w1".into(), address: "127.0.0.1:1".into() };
    let place = SubtaskPlace { worker: "w1".into(), group_start: 0, group_end: 8 };
    Entry::Generation(NewGeneration {
        number,
        workers: vec![worker],
        subtasks: vec![place],
        from,
        restore: false,
    })
}

fn completed(id: u64, tables: &[&str]) -> CompletedCheckpoint {
    let view = |name: &&str| ViewRecord {
        name: (*name).into(),
        bytes: 100,
        entries: 10,
        group_end: 8,
        view_bytes: 90,
        ..ViewRecord::default()
    };
    let views = tables.iter().map(view).collect();
    let version =
        VersionRecord { step: "agg".into(), group_start: 0, group_end: 8, views, next_seq: 2 };
    CompletedCheckpoint {
        id: CheckpointId(id),
        versions: vec![version],
        bytes_written: 7,
        retained: 2,
        ..CompletedCheckpoint::default()
    }
}

/// Runs on a store without latency or faults.
fn on_instant_store<F: Future>(test: impl FnOnce(SimStore) -> F) -> F::Output {
    sim::run(1, async { test(SimStore::new(SimStoreSettings::instant(1))).await })
}

#[test]
fn what_is_appended_is_read_by_others() {
    on_instant_store(async |store| {
        assert!(Journal::open(&root(&store)).await.unwrap().is_none());
        let mut journal = created(&store).await;
        assert_eq!(journal.state().seq, Seq(2));
        assert_eq!(journal.append(plan("p")).await.unwrap(), Seq(3));
        journal.append(generation(1, 0)).await.unwrap();
        journal.append(Entry::Checkpoint(completed(1, &["t1"]))).await.unwrap();
        let other = opened(&store).await;
        assert_eq!(other.state(), journal.state());
        assert_eq!(other.state().last_checkpoint().unwrap().id, CheckpointId(1));
        assert_eq!(other.state().term, Term(1));
        assert_eq!(other.state().living_generation(), Some(Generation(1)));
    });
}

#[test]
fn a_coordinator_of_an_older_term_is_fenced() {
    on_instant_store(async |store| {
        let mut old = created(&store).await;
        let mut new = opened(&store).await;
        new.claim("me", Authority::Owner).await.unwrap();
        let error = old.append(plan("p")).await.unwrap_err();
        assert_eq!(error.to_string(), "coordinator term 1 was ended by term 2");
        assert_eq!(error.remedy(), Remedy::StopWriting);
        assert_eq!(old.append(plan("p")).await.unwrap_err().remedy(), Remedy::StopWriting);
        new.append(plan("q")).await.unwrap();
        assert_eq!(opened(&store).await.state().plan.as_ref().unwrap().pipeline, "q");
    });
}

#[test]
fn a_job_has_one_owner_until_it_is_released_or_taken_over() {
    on_instant_store(async |store| {
        let mut mine = created(&store).await;
        let mut theirs = opened(&store).await;
        let error = theirs.claim("they", Authority::Owner).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the state of job \"demo\" is owned by me; it has to be released there, or taken over \
             explicitly"
        );
        theirs.claim("they", Authority::TakeOver).await.unwrap();
        let error = mine.append(plan("p")).await.unwrap_err();
        assert!(matches!(error, JournalError::OwnedElsewhere { owner, .. } if owner == "they"));
        let again = mine.claim("me", Authority::Owner).await.unwrap_err();
        assert_eq!(again.remedy(), Remedy::StopWriting);

        theirs.append(Entry::Released).await.unwrap();
        assert!(matches!(theirs.append(plan("p")).await, Err(JournalError::NotClaimed)));
        mine.refresh().await.unwrap();
        mine.claim("me", Authority::Owner).await.unwrap();
        mine.append(plan("mine again")).await.unwrap();
    });
}

/// Two clusters that follow one that is gone: the quicker has the job.
#[test]
fn a_right_over_one_owner_is_none_over_the_next() {
    on_instant_store(async |store| {
        drop(created(&store).await);
        let (mut one, mut two) = (opened(&store).await, opened(&store).await);
        for authority in [Authority::TakeOver, Authority::PreviousOwnerGone] {
            let error = two.take_over("two", authority, "nobody").await.unwrap_err();
            assert!(matches!(error, JournalError::OwnedElsewhere { owner, .. } if owner == "me"));
        }
        one.take_over("one", Authority::TakeOver, "me").await.unwrap();
        let error = two.take_over("two", Authority::TakeOver, "me").await.unwrap_err();
        assert!(matches!(error, JournalError::OwnedElsewhere { owner, .. } if owner == "one"));
        one.append(plan("p")).await.unwrap();
        one.append(Entry::Released).await.unwrap();
        two.refresh().await.unwrap();
        two.take_over("two", Authority::TakeOver, "me").await.unwrap();
    });
}

#[test]
fn a_confirmation_that_another_coordinator_recorded_is_not_in_the_way() {
    on_instant_store(async |store| {
        let mut first = created(&store).await;
        first.append(generation(1, 0)).await.unwrap();
        let piece = Piece { folder: "out".into(), ..Piece::default() };
        let checkpoint = CompletedCheckpoint { pieces: vec![piece], ..completed(1, &["t1"]) };
        first.append(Entry::Checkpoint(checkpoint)).await.unwrap();
        first.note_confirmed(CheckpointId(1));
        let mut second = opened(&store).await;
        second.claim("me", Authority::Owner).await.unwrap();
        second.note_confirmed(CheckpointId(1));
        assert!(second.has_unrecorded_confirmation());
        second.append(plan("p")).await.unwrap();
        assert!(!second.has_unrecorded_confirmation());

        first.claim("me", Authority::Owner).await.unwrap();
        first.append(plan("q")).await.unwrap();
        assert!(first.state().unconfirmed.is_empty());
    });
}

#[test]
fn nothing_follows_finished() {
    on_instant_store(async |store| {
        let mut journal = created(&store).await;
        journal.append(Entry::Finished(Bytes::from_static(b"sum"))).await.unwrap();
        let error = journal.append(plan("p")).await.unwrap_err();
        assert_eq!(error.to_string(), "job \"demo\" is finished");
        let mut again = opened(&store).await;
        assert_eq!(again.state().finished.as_deref(), Some(&b"sum"[..]));
        let claimed = again.claim("me", Authority::TakeOver).await;
        assert!(matches!(claimed, Err(JournalError::Finished { .. })));
    });
}

#[test]
fn an_append_needs_a_claim_and_must_follow() {
    on_instant_store(async |store| {
        let mut journal = created(&store).await;
        let unclaimed = opened(&store).await.append(plan("p")).await;
        assert!(matches!(unclaimed, Err(JournalError::NotClaimed)));
        let error = journal.append(generation(1, 3)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "this record cannot be written after record 2: the generation starts from checkpoint \
             3, the last one is 0"
        );
        // Nothing was written: the next one gets the number.
        assert_eq!(journal.append(plan("p")).await.unwrap(), Seq(3));
    });
}

#[test]
fn a_lost_answer_and_a_false_exists_do_not_lose_a_record() {
    for fault in [Fault::LostAnswer, Fault::ErrorBefore, Fault::ExistsWithoutLanding] {
        on_instant_store(async |store| {
            let mut journal = created(&store).await;
            store.plan(Planned::nth_of(Operation::Create, 1, fault).at("/journal/"));
            assert_eq!(journal.append(plan("p")).await.unwrap(), Seq(3), "{fault:?}");
            assert_eq!(opened(&store).await.state(), journal.state());
        });
    }
}

#[test]
fn a_put_that_lands_late_is_settled_by_the_next_append() {
    on_instant_store(async |store| {
        let mut root = root(&store);
        root.settle_max = Duration::ZERO;
        let mut journal = Journal::create(&root, &new_job("me"), None).await.unwrap();
        journal.claim("me", Authority::Owner).await.unwrap();
        let late = Fault::Late(Duration::from_secs(5));
        store.plan(Planned::nth_of(Operation::Create, 1, late).at("/journal/"));
        let unknown = journal.append(plan("late")).await.unwrap_err();
        assert_eq!(unknown.remedy(), Remedy::Retry);
        let lost = journal.append(plan("next")).await.unwrap_err();
        assert_eq!(lost.remedy(), Remedy::DecideAgain);
        assert_eq!(journal.state().plan.as_ref().unwrap().pipeline, "late");
        journal.append(plan("next")).await.unwrap();
        weir_runtime::clock::sleep(Duration::from_secs(10)).await;
        assert_eq!(opened(&store).await.state(), journal.state());
    });
}

#[test]
fn a_stale_record_below_the_floor_is_void() {
    on_instant_store(async |store| {
        let mut root = root(&store);
        root.base_every = 2;
        let mut stale = Journal::create(&root, &new_job("me"), None).await.unwrap();
        stale.claim("me", Authority::Owner).await.unwrap();
        let mut new = Journal::open(&root).await.unwrap().unwrap();
        new.claim("me", Authority::Owner).await.unwrap();
        for _ in 0..6 {
            new.append(plan("new")).await.unwrap();
        }
        let number = new.place().path(&format!("journal/{:020}", 3));
        assert!(store.peek(&number).is_none(), "the number is free again");
        let error = stale.append(plan("stale")).await.unwrap_err();
        assert!(matches!(error, JournalError::Fenced { .. }), "{error}");
        assert!(store.peek(&number).is_some(), "its create succeeded");
        let state = Journal::open(&root).await.unwrap().unwrap().state().clone();
        assert_eq!(&state, new.state());
        assert_eq!(stale.state(), new.state());
    });
}

#[test]
fn old_records_and_bases_go_and_all_is_still_there() {
    on_instant_store(async |store| {
        let mut root = root(&store);
        root.base_every = 4;
        let mut journal = Journal::create(&root, &new_job("me"), None).await.unwrap();
        journal.claim("me", Authority::Owner).await.unwrap();
        journal.append(generation(1, 0)).await.unwrap();
        for id in 1..40 {
            let tables = [format!("t{id}"), format!("t{}", id + 1)];
            let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
            let piece =
                Piece { folder: "out".into(), staged: format!("p{id}"), ..Piece::default() };
            let checkpoint = CompletedCheckpoint { pieces: vec![piece], ..completed(id, &tables) };
            if id > 3 {
                journal.note_confirmed(CheckpointId(id - 3));
            }
            journal.append(Entry::Checkpoint(checkpoint)).await.unwrap();
        }
        let count = |part: &str| store.names().iter().filter(|(n, _)| n.contains(part)).count();
        assert!(count("/journal/") <= 9, "{:?}", store.names());
        assert_eq!(count("/base/"), 2);
        let opened = Journal::open(&root).await.unwrap().unwrap();
        assert_eq!(opened.state(), journal.state());
        assert_eq!(opened.state().unconfirmed.len(), 3);
    });
}

#[test]
fn a_cold_start_takes_few_requests_one_after_another() {
    let took = |records: u32| {
        sim::run(1, async {
            let each = Duration::from_millis(100);
            let store = SimStore::new(SimStoreSettings::with_latency(1, each, each));
            let mut journal = created(&store).await;
            for _ in 0..records {
                journal.append(plan("p")).await.unwrap();
            }
            let start = weir_runtime::clock::now();
            let mut opened = opened(&store).await;
            opened.claim("me", Authority::Owner).await.unwrap();
            start.elapsed().as_millis() / 100
        })
    };
    // Claims, claim, listings, records, look; the claim's write and its look.
    assert!(took(3) <= 7, "{}", took(3));
    assert!(took(100) <= 7, "{}", took(100));
}

#[test]
fn an_idle_journal_makes_no_request_and_an_append_makes_three() {
    on_instant_store(async |store| {
        let mut journal = created(&store).await;
        let before = store.calls();
        journal.append(plan("p")).await.unwrap();
        assert_eq!(store.calls() - before, 3);
        weir_runtime::clock::sleep(Duration::from_secs(100_000)).await;
        assert_eq!(store.calls() - before, 3);
    });
}

#[test]
fn of_two_who_create_at_once_one_succeeds_and_the_other_opens() {
    for seed in 0..50 {
        sim::run(seed, async {
            let each = Duration::from_millis(1)..=Duration::from_millis(50);
            let settings = SimStoreSettings::with_latency(seed, *each.start(), *each.end());
            let store = SimStore::new(settings);
            let root = root(&store);
            let (a, b) = (new_job("a"), new_job("b"));
            let created =
                futures::join!(Journal::create(&root, &a, None), Journal::create(&root, &b, None));
            let (won, lost) = match created {
                (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
                other => panic!("{other:?}"),
            };
            assert_eq!(lost.remedy(), Remedy::DecideAgain);
            assert_eq!(opened(&store).await.state(), won.state());
        });
    }
}

#[test]
fn a_creator_that_dies_before_the_first_record_has_created_all_the_same() {
    on_instant_store(async |store| {
        store.plan(Planned::nth_of(Operation::Create, 1, Fault::CrashBefore).at("/journal/"));
        let process = sim::Process::new("creator", 0);
        let from = store.clone();
        let create = async move {
            let created = Journal::create(&root(&from), &new_job("me"), None).await;
            created.map(drop).map_err(|error| error.to_string())
        };
        assert!(process.spawn(create).await.is_err());
        let journal = opened(&store).await;
        assert_eq!((journal.state().seq, journal.state().owner.as_str()), (Seq(1), "me"));
    });
}

#[test]
fn a_later_incarnation_voids_the_one_before() {
    on_instant_store(async |store| {
        let mut old = created(&store).await;
        let first = old.incarnation().clone();
        let new = Journal::create(&root(&store), &new_job("me"), Some(&first)).await.unwrap();
        assert_eq!(new.incarnation().number, 2);
        let error = old.append(plan("p")).await.unwrap_err();
        let expected = format!("incarnation {first} was replaced or deleted (claim 2 exists)");
        assert_eq!(error.to_string(), expected);
        let twice = Journal::create(&root(&store), &new_job("me"), Some(&first)).await;
        assert!(matches!(twice, Err(JournalError::CreatedElsewhere { .. })));

        Journal::abandon(&root(&store), new.incarnation()).await.unwrap();
        assert!(Journal::open(&root(&store)).await.unwrap().is_none());
        let third = Journal::create(&root(&store), &new_job("me"), None).await.unwrap();
        assert_eq!(third.incarnation().number, 4);
    });
}

#[test]
fn the_journal_of_another_job_is_refused_by_name() {
    on_instant_store(async |store| {
        let journal = created(&store).await;
        journal.check_job("demo").unwrap();
        assert_eq!(
            journal.check_job("other").unwrap_err().to_string(),
            "sim://s holds the state of job \"demo\", not of \"other\"; give each job a state \
             folder of its own"
        );
    });
}

#[test]
fn a_record_of_another_incarnation_is_refused_by_name() {
    on_instant_store(async |store| {
        let mut journal = created(&store).await;
        journal.append(plan("p")).await.unwrap();
        let elsewhere = SimStore::new(SimStoreSettings::instant(2));
        let mut other = created(&elsewhere).await;
        other.append(plan("q")).await.unwrap();
        let name = format!("journal/{:020}", 3);
        let foreign = elsewhere.peek(&other.place().path(&name)).unwrap();
        store.plant(&journal.place().path(&name), foreign);
        let error = Journal::open(&root(&store)).await.unwrap_err().to_string();
        let (ours, theirs) = (journal.incarnation(), other.incarnation());
        assert_eq!(
            error,
            format!(
                "sim://s/{ours}/{name} belongs to incarnation {theirs}, not to {ours}; it was \
                 copied or moved there"
            )
        );
    });
}

#[test]
fn a_damaged_record_is_reported_with_object_and_offset() {
    on_instant_store(async |store| {
        let mut journal = created(&store).await;
        journal.append(plan("p")).await.unwrap();
        let name = format!("journal/{:020}", 3);
        let path = journal.place().path(&name);
        let mut bytes = store.peek(&path).unwrap().to_vec();
        bytes[30] ^= 4;
        let end = bytes.len() - 8;
        store.plant(&path, bytes);
        let error = Journal::open(&root(&store)).await.unwrap_err();
        let start = format!(
            "sim://s/{}/{name} is damaged at byte {end}: expected checksum ",
            journal.incarnation()
        );
        assert!(error.to_string().starts_with(&start), "{error}");
        assert_eq!(error.remedy(), Remedy::AskHuman);
    });
}

#[test]
fn a_journal_of_a_newer_version_is_refused_by_version() {
    on_instant_store(async |store| {
        let journal = created(&store).await;
        let name = format!("journal/{:020}", 2);
        let path = journal.place().path(&name);
        let mut bytes = store.peek(&path).unwrap().to_vec();
        bytes.truncate(bytes.len() - 8);
        bytes[8] = 2;
        bytes.extend(xxhash_rust::xxh3::xxh3_64(&bytes).to_le_bytes());
        store.plant(&path, bytes);
        let error = Journal::open(&root(&store)).await.unwrap_err().to_string();
        let expected = format!(
            "sim://s/{}/{name} has format version 2, this Weir reads up to 1; use a newer Weir",
            journal.incarnation()
        );
        assert_eq!(error, expected);
    });
}

#[test]
fn a_full_store_is_told_at_once_and_the_record_comes_when_there_is_room() {
    on_instant_store(async |store| {
        let mut journal = created(&store).await;
        store.set_capacity_bytes(Some(0));
        let started = weir_runtime::clock::now();
        let error = journal.append(plan("p")).await.unwrap_err();
        assert!(matches!(error, JournalError::Store(StoreError::Full { .. })));
        assert!(error.to_string().contains("no space is left; free some"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(1));
        store.set_capacity_bytes(None);
        journal.refresh().await.unwrap();
        assert_eq!(journal.state().seq, Seq(3));
    });
}

#[test]
fn a_pinned_snapshot_stays_and_a_deleted_one_cannot_be_pinned() {
    on_instant_store(async |store| {
        let mut journal = created(&store).await;
        journal.append(generation(1, 0)).await.unwrap();
        journal.append(Entry::Checkpoint(completed(1, &["t1"]))).await.unwrap();
        let (name, checkpoint) = ("s".to_owned(), CheckpointId(1));
        journal.append(Entry::Snapshot { name: name.clone(), checkpoint }).await.unwrap();
        let (root, incarnation) = (root(&store), journal.incarnation().clone());
        pin(&root, &incarnation, "s", "fork", None).await.unwrap();
        pin(&root, &incarnation, "s", "reader", Some(1_000)).await.unwrap();
        let error = release_snapshot(&root, &incarnation, "s", 500).await.unwrap_err();
        assert_eq!(error.to_string(), "snapshot \"s\" is pinned by fork");
        let late = pin(&root, &incarnation, "s", "late", None).await.unwrap_err();
        assert_eq!(late.to_string(), "snapshot \"s\" is being deleted");

        unpin(&root, &incarnation, "s", "fork").await.unwrap();
        let error = release_snapshot(&root, &incarnation, "s", 500).await.unwrap_err();
        assert_eq!(error.to_string(), "snapshot \"s\" is pinned by reader");
        release_snapshot(&root, &incarnation, "s", 1_000).await.unwrap();
        journal.append(Entry::DropSnapshot { name }).await.unwrap();
        assert!(journal.state().snapshots.is_empty());
    });
}

/// A journal with something of everything.
async fn full_journal(store: &SimStore) -> Journal {
    let mut root = root(store);
    root.base_every = 6;
    let mut journal = Journal::create(&root, &new_job("me"), None).await.unwrap();
    journal.claim("me", Authority::Owner).await.unwrap();
    let bytes = Bytes::from_static(b"opaque");
    let of_step = StepBytes { step: "agg".into(), bytes: bytes.clone() };
    let signatures = vec![of_step.clone()];
    let sources = vec![of_step.clone()];
    let plan = Plan { pipeline: bytes, signatures, sources, ..Plan::default() };
    journal.append(Entry::Plan(plan)).await.unwrap();
    journal.append(generation(1, 0)).await.unwrap();
    for id in 1..=5_u64 {
        let tables = [format!("t{id}"), format!("t{}", id + 1)];
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        let piece = |folder: &str| Piece {
            step: "out".into(),
            folder: folder.into(),
            staged: format!("staged-{folder}-{id}"),
            final_name: format!("final-{id}"),
            rows: 3,
            bytes: 30,
        };
        let watermark =
            RangeWatermark { step: "agg".into(), group_start: 0, group_end: 8, watermark_ms: -5 };
        let checkpoint = CompletedCheckpoint {
            sources: vec![of_step.clone()],
            watermarks: vec![watermark],
            waiting_rows: vec![format!("w{id}")],
            pieces: vec![piece("out"), piece("")],
            ..completed(id, &tables)
        };
        journal.append(Entry::Checkpoint(checkpoint)).await.unwrap();
        if id == 2 {
            let (name, checkpoint) = ("s".to_owned(), CheckpointId(1));
            journal.append(Entry::Snapshot { name, checkpoint }).await.unwrap();
        }
        if id == 3 {
            journal.note_confirmed(CheckpointId(1));
            journal.note_deleted(Seq(1));
        }
    }
    journal
}

fn testdata() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/journal-v1")
}

#[test]
fn bytes_of_version_1_are_read_for_ever() {
    on_instant_store(async |store| {
        let journal = full_journal(&store).await;
        if std::env::var_os("WEIR_WRITE_TESTDATA").is_some() {
            for (name, _) in store.names() {
                let file = testdata().join(name.strip_prefix("s/").unwrap());
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, store.peek(&Path::from(name)).unwrap()).unwrap();
            }
        }
        let old = SimStore::new(SimStoreSettings::instant(1));
        for (name, bytes) in files_below(&testdata()) {
            old.plant(&Path::from(format!("s/{name}")), bytes);
        }
        assert!(old.names().iter().any(|(name, _)| name.contains("/base/")));
        let read = opened(&old).await;
        let state = read.state();
        assert_eq!((state.job.as_str(), state.owner.as_str(), state.key_groups), ("demo", "me", 8));
        assert_eq!((state.term, state.generation_number()), (Term(1), Generation(1)));
        let held: Vec<u64> = state.checkpoints.keys().map(|id| id.0).collect();
        assert_eq!(held, [1, 4, 5]);
        assert_eq!(state.snapshots["s"], CheckpointId(1));
        let unconfirmed: Vec<u64> = state.unconfirmed.keys().map(|id| id.0).collect();
        assert_eq!(unconfirmed, [2, 3, 4, 5]);
        let last = state.last_checkpoint().unwrap();
        assert_eq!(last.objects().collect::<Vec<_>>(), ["t5", "t6", "w5"]);
        assert_eq!(last.watermarks[0].watermark_ms, -5);
        assert_eq!(state.plan.as_ref().unwrap().sources[0].bytes, "opaque");
        assert!(!state.condemned.is_empty());
        assert_eq!(state, journal.state());
    });
}

fn files_below(root: &std::path::Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    files
}

#[test]
fn a_summary_shows_what_is_there_without_a_job() {
    on_instant_store(async |store| {
        let none = summarize(&root(&store)).await.unwrap_err();
        assert_eq!(none.to_string(), "sim://s holds no job's state");
        let journal = full_journal(&store).await;
        let calls = store.counts();
        let summary = summarize(&root(&store)).await.unwrap();
        for writes in [Operation::Put, Operation::Create, Operation::Delete] {
            assert_eq!(store.counts().get(&writes), calls.get(&writes), "it only reads");
        }
        assert_eq!(summary.incarnations.len(), 1);
        let shown = &summary.incarnations[0];
        assert_eq!((&shown.incarnation, shown.present), (journal.incarnation(), true));
        assert_eq!((shown.job.as_str(), shown.width, shown.workers), ("demo", 1, 1));
        assert_eq!(shown.unconfirmed_pieces, 8);
        let last = shown.checkpoints.last().unwrap();
        assert_eq!((last.id, last.objects, last.bytes), (CheckpointId(5), 3, 200));
        assert_eq!((last.shards[0].views, last.shards[0].bytes), (2, 180));
    });
}

#[test]
fn a_checkpoints_record_does_not_grow_with_the_state() {
    let record_bytes = |tables: usize| {
        on_instant_store(async |store| {
            let mut journal = created(&store).await;
            journal.append(generation(1, 0)).await.unwrap();
            let mut names: Vec<String> = (0..tables).map(|n| format!("t{n:06}")).collect();
            let mut sizes = Vec::new();
            for id in 1..=2 {
                let tables: Vec<&str> = names.iter().map(String::as_str).collect();
                let seq = journal.append(Entry::Checkpoint(completed(id, &tables))).await.unwrap();
                let path = journal.place().path(&format!("journal/{:020}", seq.0));
                sizes.push(store.peek(&path).unwrap().len());
                names[0] = "flushed".into();
            }
            sizes[1]
        })
    };
    assert!(record_bytes(10_000) <= record_bytes(10) + 16);
}

#[test]
fn a_snapshot_of_a_finished_job_can_be_named_and_given_up_and_nothing_else_follows() {
    on_instant_store(async |store| {
        let mut journal = created(&store).await;
        journal.append(generation(1, 0)).await.unwrap();
        journal.append(Entry::Checkpoint(completed(1, &["t1"]))).await.unwrap();
        journal.append(Entry::Finished(Bytes::from_static(b"sum"))).await.unwrap();
        let mut visitor = opened(&store).await;
        visitor.visit().await.unwrap();
        let (name, checkpoint) = ("s".to_owned(), CheckpointId(1));
        visitor.append(Entry::Snapshot { name: name.clone(), checkpoint }).await.unwrap();
        let error = visitor.append(plan("p")).await.unwrap_err();
        assert_eq!(error.to_string(), "job \"demo\" is finished");
        let state = opened(&store).await.state().clone();
        assert_eq!((state.owner.as_str(), state.snapshots["s"]), ("me", checkpoint));
        assert!(state.finished.is_some() && state.living_generation().is_none());
        visitor.append(Entry::DropSnapshot { name }).await.unwrap();
        assert!(opened(&store).await.state().snapshots.is_empty());
    });
}

/// A run that was begun anew or deleted stays as long as a snapshot or a pin holds it.
#[test]
fn a_dead_incarnation_goes_when_its_last_snapshot_does() {
    on_instant_store(async |store| {
        let mut journal = created(&store).await;
        journal.append(generation(1, 0)).await.unwrap();
        journal.append(Entry::Checkpoint(completed(1, &["t1"]))).await.unwrap();
        let (name, checkpoint) = ("s".to_owned(), CheckpointId(1));
        journal.append(Entry::Snapshot { name, checkpoint }).await.unwrap();
        let (root, old) = (root(&store), journal.incarnation().clone());
        Journal::abandon(&root, &old).await.unwrap();
        assert!(!gc::delete_incarnation(&root, &old).await.unwrap(), "a snapshot holds it");
        let read = Journal::read_only(&root, &old).await.unwrap();
        assert_eq!(read.state().snapshots["s"], checkpoint);

        pin(&root, &old, "s", "fork", None).await.unwrap();
        release_snapshot(&root, &old, "s", 1).await.unwrap_err();
        assert!(!gc::delete_incarnation(&root, &old).await.unwrap(), "a pin holds it");
        unpin(&root, &old, "s", "fork").await.unwrap();
        release_snapshot(&root, &old, "s", 1).await.unwrap();
        assert!(gc::delete_incarnation(&root, &old).await.unwrap());
        assert_eq!(root.dead().await.unwrap(), []);
        let left: Vec<_> = store.names().into_iter().map(|(name, _)| name).collect();
        assert_eq!(left, ["s/claims/1", "s/claims/2"]);
    });
}

/// Deletion that a crash cut off goes on, though what is left can't be asked any more who holds it.
#[test]
fn a_deletion_of_an_incarnation_that_was_cut_off_is_not_asked_again() {
    for calls in 1..40 {
        on_instant_store(async |store| {
            let mut journal = created(&store).await;
            for id in 0..3 {
                journal.append(generation(id + 1, 0)).await.unwrap();
            }
            let (root, old) = (root(&store), journal.incarnation().clone());
            Journal::abandon(&root, &old).await.unwrap();
            store.plan(Planned::nth_call(calls, Fault::CrashAfter));
            let process = sim::Process::new("deletes", 0);
            let (its_root, its_old) = (root.clone(), old.clone());
            drop(process.spawn(async move { gc::delete_incarnation(&its_root, &its_old).await }));
            weir_runtime::clock::sleep(Duration::from_secs(1)).await;
            assert!(root.dead().await.unwrap().is_empty() || process.is_killed());
            gc::delete_incarnation(&root, &old).await.unwrap();
            assert_eq!(root.dead().await.unwrap(), [], "after {calls} calls");
        });
    }
}
