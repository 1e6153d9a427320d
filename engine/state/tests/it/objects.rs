//! Real stores: local folders, and S3 against a stub that speaks enough of its protocol.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStoreExt, PutMode, PutPayload};
use weir_state::gc::{self, SinkFolders};
use weir_state::ids::Generation;
use weir_state::journal::record::{Authority, NewGeneration, Plan};
use weir_state::journal::{Entry, Journal, NewJob, Root};
use weir_state::names::staging_folder;
use weir_state::objects::{
    Credentials, Place, StoreError, StoreOptions, open, open_existing, probe_create_if_absent,
};

use crate::s3_stub::{ANY_PORT, Behaviour, Stub};

fn new_job() -> NewJob {
    NewJob { job: "demo".into(), owner: "me".into(), key_groups: 8 }
}

async fn local(folder: &std::path::Path) -> Place {
    open(folder.to_str().unwrap(), &StoreOptions::default()).await.unwrap()
}

async fn names(place: &Place) -> Vec<String> {
    let listed = place.store.list(Some(&place.prefix)).map_ok(|meta| meta.location.to_string());
    let mut names: Vec<String> = listed.try_collect().await.unwrap();
    names.sort();
    names
}

/// A job's journal from beginning to end, on a real store.
async fn live_and_finish(place: Place) {
    probe_create_if_absent(&place).await.unwrap();
    let root = Root { base_every: 3, ..Root::new(place) };
    let mut journal = Journal::create(&root, &new_job(), None).await.unwrap();
    journal.claim("me", Authority::Owner).await.unwrap();
    for _ in 0..8 {
        journal.append(Entry::Plan(Plan::default())).await.unwrap();
    }
    let mut stale = Journal::open(&root).await.unwrap().unwrap();
    assert_eq!(stale.state(), journal.state());
    stale.claim("me", Authority::Owner).await.unwrap();
    journal.append(Entry::Plan(Plan::default())).await.unwrap_err();
    stale.append(Entry::Finished(Bytes::new())).await.unwrap();
    gc::sweep(&stale, &SinkFolders::new()).await.unwrap();
    assert!(Journal::open(&root).await.unwrap().unwrap().state().finished.is_some());

    let old = stale.incarnation().clone();
    let next = Journal::create(&root, &new_job(), Some(&old)).await.unwrap();
    gc::delete_incarnation(&root, &old).await.unwrap();
    assert!(root.dead().await.unwrap().is_empty());
    let refused = gc::delete_incarnation(&root, next.incarnation()).await.unwrap_err();
    assert!(refused.to_string().contains("is the job's present one"), "{refused}");
    assert!(Journal::open(&root).await.unwrap().is_some());
}

#[tokio::test]
async fn a_journal_lives_in_a_local_folder() {
    let folder = tempfile::tempdir().unwrap();
    let place = local(&folder.path().join("deep/state")).await;
    live_and_finish(place.clone()).await;
    let claims = names(&place).await.into_iter().filter(|name| name.starts_with("claims/"));
    assert_eq!(claims.collect::<Vec<_>>(), ["claims/1", "claims/2"]);
    let folders: Vec<_> = std::fs::read_dir(folder.path().join("deep/state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "claims")
        .collect();
    assert_eq!(folders.len(), 1, "nothing of the first incarnation is left: {folders:?}");
}

#[tokio::test]
async fn a_journal_lives_in_memory_by_name() {
    let options = StoreOptions::default();
    let place = open("memory://a_journal/state", &options).await.unwrap();
    live_and_finish(place).await;
    let again = open("memory://a_journal/state", &options).await.unwrap();
    assert!(Journal::open(&Root::new(again)).await.unwrap().is_some());
}

#[tokio::test]
async fn local_creates_are_exclusive_and_leave_no_temporary_file() {
    let folder = tempfile::tempdir().unwrap();
    let place = local(folder.path()).await;
    let path = place.path("x/y");
    let create = |text: &'static str| {
        place.store.put_opts(&path, PutPayload::from(text), PutMode::Create.into())
    };
    create("first").await.unwrap();
    let second = create("second").await.unwrap_err();
    assert!(matches!(second, object_store::Error::AlreadyExists { .. }), "{second}");
    assert_eq!(std::fs::read(folder.path().join("x/y")).unwrap(), b"first");
    assert_eq!(std::fs::read_dir(folder.path().join("x")).unwrap().count(), 1);
}

#[tokio::test]
async fn many_local_creates_of_one_name_have_one_winner() {
    let folder = tempfile::tempdir().unwrap();
    let place = local(folder.path()).await;
    let path = place.path("claim");
    let creates = (0..32).map(|n: u8| {
        let payload = PutPayload::from(vec![n; 100]);
        place.store.put_opts(&path, payload, PutMode::Create.into())
    });
    let created = futures::future::join_all(creates).await;
    let winners: Vec<u8> = (0..32).filter(|n: &u8| created[usize::from(*n)].is_ok()).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(std::fs::read(folder.path().join("claim")).unwrap(), vec![winners[0]; 100]);
}

#[tokio::test]
async fn what_a_cut_off_put_left_is_no_object_and_goes_with_the_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let place = local(folder.path()).await;
    let mut journal = Journal::create(&Root::new(place.clone()), &new_job(), None).await.unwrap();
    journal.claim("me", Authority::Owner).await.unwrap();
    journal.append(Entry::Finished(Bytes::new())).await.unwrap();
    let home = folder.path().join(journal.incarnation().to_string());
    let leftover = home.join(format!("journal/{:020}#1", 4));
    std::fs::write(&leftover, "half a rec").unwrap();
    std::fs::write(folder.path().join("claims/2#1"), "later").unwrap();
    std::fs::write(folder.path().join("claims/1#7"), "half").unwrap();

    assert!(names(&place).await.iter().all(|name| !name.contains('#')));
    let read = Journal::open(&Root::new(place.clone())).await.unwrap().unwrap();
    assert_eq!(read.state(), journal.state());
    let planned = gc::plan_sweep(&journal, &SinkFolders::new()).await.unwrap();
    assert_eq!(planned.gone().count(), 2, "{planned:?}");
    assert!(leftover.exists());
    let report = gc::sweep(&journal, &SinkFolders::new()).await.unwrap();
    assert_eq!(report, planned);
    assert!(!leftover.exists());
    assert!(!folder.path().join("claims/1#7").exists());
    assert!(folder.path().join("claims/2#1").exists());
}

#[tokio::test]
async fn empty_staging_folders_go_with_their_generation() {
    let folder = tempfile::tempdir().unwrap();
    let place = local(&folder.path().join("state")).await;
    let sink = local(&folder.path().join("out")).await;
    let mut journal = Journal::create(&Root::new(place), &new_job(), None).await.unwrap();
    journal.claim("me", Authority::Owner).await.unwrap();
    for number in [1, 2] {
        let generation = NewGeneration { number, ..NewGeneration::default() };
        journal.append(Entry::Generation(generation)).await.unwrap();
    }
    let home = folder.path().join("out/_weir").join(&journal.incarnation().id);
    for generation in [1, 2] {
        let folder = staging_folder(&journal.incarnation().id, Generation(generation));
        let staged = sink.path(&format!("{folder}/x"));
        sink.store.put(&staged, PutPayload::from_static(b"x")).await.unwrap();
    }
    let sinks: SinkFolders = [("out".to_owned(), sink)].into();
    gc::sweep(&journal, &sinks).await.unwrap();
    assert!(!home.join("g1").exists() && home.join("g2/x").exists());
    journal.append(Entry::Finished(Bytes::new())).await.unwrap();
    gc::sweep(&journal, &sinks).await.unwrap();
    assert!(!folder.path().join("out/_weir").exists());
}

#[tokio::test]
async fn a_folder_that_is_missing_is_made_for_writing_and_named_for_reading() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("not there");
    let uri = missing.to_str().unwrap();
    let error = open_existing(uri, &StoreOptions::default()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{uri} does not exist"));
    let file_uri = format!("file://{}", uri.replace(' ', "%20"));
    let place = open(&file_uri, &StoreOptions::default()).await.unwrap();
    assert!(missing.is_dir());
    assert_eq!(place.local.unwrap(), missing.canonicalize().unwrap());
    std::fs::write(folder.path().join("file"), "x").unwrap();
    let file = folder.path().join("file");
    let error = open_existing(file.to_str().unwrap(), &StoreOptions::default()).await.unwrap_err();
    assert!(error.to_string().ends_with("it is no folder; name another"), "{error}");
}

// The kernel lets nobody, not even root, make files in /sys.
#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named_with_what_to_do() {
    let error = open("/sys/weir-state", &StoreOptions::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot write /sys/weir-state: permission denied; give this user the right, or choose \
         another folder"
    );
    let place = open_existing("/sys", &StoreOptions::default()).await.unwrap();
    let error = probe_create_if_absent(&place).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error}");
}

fn s3(stub: &Stub) -> StoreOptions {
    StoreOptions {
        endpoint: Some(stub.endpoint()),
        region: Some("eu-central-1".into()),
        allow_http: true,
        path_style: Some(true),
        credentials: Some(Credentials {
            access_key_id: "id".into(),
            secret_access_key: "hidden".into(),
        }),
    }
}

#[tokio::test]
async fn a_journal_lives_in_s3() {
    let stub = Stub::start_at(ANY_PORT, Behaviour::Good).await;
    let place = open("s3://bucket/jobs/demo", &s3(&stub)).await.unwrap();
    live_and_finish(place.clone()).await;
    assert!(names(&place).await.iter().all(|name| name.starts_with("jobs/demo/")));
    let path = place.path("objects/x");
    place.store.put(&path, PutPayload::from_static(b"0123456789")).await.unwrap();
    assert_eq!(place.store.get_range(&path, 3..6).await.unwrap(), "345");
    assert!(stub.requests().iter().any(|line| line.contains("If-None-Match")));
}

#[tokio::test]
async fn an_s3_store_that_ignores_the_condition_is_refused_by_name() {
    for behaviour in [Behaviour::IgnoresCondition, Behaviour::RefusesCondition] {
        let stub = Stub::start_at(ANY_PORT, behaviour).await;
        let place = open("s3://bucket/jobs/demo", &s3(&stub)).await.unwrap();
        let error = Journal::create(&Root::new(place), &new_job(), None).await.unwrap_err();
        let start = "the store of s3://bucket/jobs/demo does not honour create-if-absent";
        assert!(error.to_string().starts_with(start), "{behaviour:?}: {error}");
    }
}

#[tokio::test]
async fn an_s3_store_that_denies_is_named_with_what_to_do() {
    let stub = Stub::start_at(ANY_PORT, Behaviour::Denies).await;
    let place = open("s3://bucket/jobs/demo", &s3(&stub)).await.unwrap();
    let error = Journal::create(&Root::new(place), &new_job(), None).await.unwrap_err();
    assert!(error.to_string().contains("permission denied; give this user the right"), "{error}");
}

#[test]
fn a_secret_is_never_shown() {
    let credentials =
        Credentials { access_key_id: "id".into(), secret_access_key: "hidden".into() };
    let shown =
        format!("{:?}", StoreOptions { credentials: Some(credentials), ..StoreOptions::default() });
    assert!(shown.contains("id") && !shown.contains("hidden"), "{shown}");
}

#[tokio::test]
async fn an_object_is_linked_on_one_disk_and_carried_from_store_to_store() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to) = (local(one.path()).await, local(two.path()).await);
    // More than two parts.
    let large: Bytes = (0..20_000_000_u32).map(|at| at.to_le_bytes()[at as usize % 3]).collect();
    for (name, bytes) in [("objects/small", Bytes::from_static(b"abc")), ("objects/large", large)] {
        from.store.put(&from.path(name), PutPayload::from(bytes.clone())).await.unwrap();
        let uri = format!("memory://carry/{name}");
        let apart = open(&uri, &StoreOptions::default()).await.unwrap();
        for target in [to.clone(), apart] {
            for _ in 0..2 {
                assert!(target.copy_from(&from, name, false).await.unwrap());
            }
            assert_eq!(target.read(&target.path(name)).await.unwrap(), Some(bytes.clone()));
            assert!(!target.copy_from(&from, "objects/none", false).await.unwrap());
        }
    }
    let inode = |folder: &tempfile::TempDir| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(folder.path().join("objects/large")).unwrap().ino()
    };
    assert_eq!(inode(&one), inode(&two), "it has a second name, and no second copy");
    let within = to.folder("fork");
    assert!(within.copy_from(&to, "objects/small", true).await.unwrap());
    assert!(within.read(&within.path("objects/small")).await.unwrap().is_some());
}
