//! Clean-up from outside: deletion after retirement, the sweep over state and sinks, `--fresh`.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use weir_runtime::sim;
use weir_runtime::sim::store::{Fault, Operation, Planned, SimStore, SimStoreSettings};
use weir_state::gc::{self, Fate, GcError, SinkFolders, Why};
use weir_state::ids::{CheckpointId, Generation, Seq};
use weir_state::journal::record::{Authority, NewGeneration, Piece};
use weir_state::journal::{CompletedCheckpoint, Entry, Journal, NewJob, Root};
use weir_state::names::{ObjectNamer, staging_folder};
use weir_state::objects::Place;
use weir_state::version::record::{VersionRecord, ViewRecord};

struct World {
    store: SimStore,
    journal: Journal,
    sinks: SinkFolders,
}

fn place(store: &SimStore, folder: &str) -> Place {
    let store: Arc<dyn ObjectStore> = Arc::new(store.clone());
    Place::new(store, Path::from(folder), format!("sim://{folder}"))
}

impl World {
    async fn new() -> Self {
        let store = SimStore::new(SimStoreSettings::instant(1));
        let root = Root::new(place(&store, "state"));
        let new = NewJob { job: "demo".into(), owner: "me".into(), key_groups: 8 };
        let mut journal = Journal::create(&root, &new, None).await.unwrap();
        journal.claim("me", Authority::Owner).await.unwrap();
        let sinks = [("out".to_owned(), place(&store, "sink"))].into();
        Self { store, journal, sinks }
    }

    async fn begin_generation(&mut self, number: u64) -> ObjectNamer {
        let from = self.journal.state().last_checkpoint().map_or(0, |last| last.id.0);
        let generation = NewGeneration { number, from, ..NewGeneration::default() };
        self.journal.append(Entry::Generation(generation)).await.unwrap();
        ObjectNamer::new(Generation(number), "w")
    }

    async fn object(&self, namer: &ObjectNamer) -> String {
        let name = namer.name("sst");
        put(&self.journal.objects(), &name).await;
        name
    }

    async fn staged(&self, generation: u64, name: &str) -> String {
        let folder = staging_folder(&self.journal.incarnation().id, Generation(generation));
        let staged = format!("{folder}/{name}");
        put(&self.sinks["out"], &staged).await;
        staged
    }

    async fn complete(&mut self, id: u64, tables: &[&str], staged: &[&str]) {
        let view = |name: &&str| ViewRecord {
            name: (*name).to_owned(),
            group_end: 8,
            ..ViewRecord::default()
        };
        let version = VersionRecord {
            step: "agg".into(),
            group_end: 8,
            views: tables.iter().map(view).collect(),
            ..VersionRecord::default()
        };
        let piece = |staged: &&str| Piece {
            folder: "out".into(),
            staged: (*staged).to_owned(),
            ..Piece::default()
        };
        let checkpoint = CompletedCheckpoint {
            id: CheckpointId(id),
            versions: vec![version],
            pieces: staged.iter().map(piece).collect(),
            retained: 1,
            ..CompletedCheckpoint::default()
        };
        self.journal.append(Entry::Checkpoint(checkpoint)).await.unwrap();
    }

    fn has(&self, name: &str) -> bool {
        self.store.names().iter().any(|(path, _)| path.ends_with(name))
    }
}

async fn put(place: &Place, name: &str) {
    place.store.put(&place.path(name), PutPayload::from_static(b"x")).await.unwrap();
}

#[test]
fn what_retired_checkpoints_alone_named_goes_and_a_failure_on_the_way_resumes() {
    sim::run(1, async {
        let mut world = World::new().await;
        let namer = world.begin_generation(1).await;
        let (a, b) = (world.object(&namer).await, world.object(&namer).await);
        let c = world.object(&namer).await;
        let piece = world.staged(1, "p").await;
        world.complete(1, &[&a, &b], &[&piece]).await;
        assert_eq!(gc::delete_condemned(&world.journal, &world.sinks).await.unwrap(), None);

        world.journal.note_confirmed(CheckpointId(1));
        world.complete(2, &[&b, &c], &[]).await;
        // The process dies in the middle of the deletion, and its successor goes on.
        world.store.plan(Planned::nth_of(Operation::Delete, 1, Fault::CrashAfter));
        let (process, sinks) = (sim::Process::new("coordinator", 0), world.sinks.clone());
        let root = world.journal.root().clone();
        let dying = async move {
            let journal = Journal::open(&root).await.unwrap().unwrap();
            gc::delete_condemned(&journal, &sinks).await.map_err(|error| error.to_string())
        };
        assert!(process.spawn(dying).await.is_err());
        assert!(!world.has(&a) && world.has(&piece));

        let through = gc::delete_condemned(&world.journal, &world.sinks).await.unwrap();
        assert!(!world.has(&piece));
        assert!(world.has(&b) && world.has(&c));
        world.journal.note_deleted(through.unwrap());
        world.complete(3, &[&b, &c], &[]).await;
        assert!(world.journal.state().condemned.is_empty());
        let calls = world.store.calls();
        assert_eq!(gc::delete_condemned(&world.journal, &world.sinks).await.unwrap(), None);
        assert_eq!(world.store.calls(), calls);
    });
}

#[test]
fn an_unknown_sink_folder_is_named() {
    sim::run(1, async {
        let mut world = World::new().await;
        world.begin_generation(1).await;
        let piece = world.staged(1, "p").await;
        world.complete(1, &[], &[&piece]).await;
        world.journal.note_confirmed(CheckpointId(1));
        world.complete(2, &[], &[]).await;
        let error = gc::delete_condemned(&world.journal, &SinkFolders::new()).await.unwrap_err();
        assert!(matches!(error, GcError::UnknownFolder { ref folder } if folder == "out"));
        assert!(world.has(&piece));
    });
}

#[test]
fn reported_objects_go_unless_they_are_named_or_not_of_the_living_generation() {
    sim::run(1, async {
        let mut world = World::new().await;
        let old = world.begin_generation(1).await;
        let dead = world.object(&old).await;
        let namer = world.begin_generation(2).await;
        let (named, unnamed) = (world.object(&namer).await, world.object(&namer).await);
        world.complete(1, &[&named], &[]).await;
        let reported = [named.clone(), unnamed.clone(), dead.clone()];
        let kept = gc::delete_unnamed(&world.journal, &reported).await.unwrap();
        assert_eq!(kept, [named.clone(), dead.clone()]);
        assert!(!world.has(&unnamed) && world.has(&named) && world.has(&dead));
    });
}

#[test]
fn a_sweep_takes_what_dead_generations_left_and_nothing_else() {
    sim::run(1, async {
        let mut world = World::new().await;
        let first = world.begin_generation(1).await;
        let (kept, lost) = (world.object(&first).await, world.object(&first).await);
        let (committed, aborted) = (world.staged(1, "c").await, world.staged(1, "a").await);
        world.complete(1, &[&kept], &[&committed]).await;
        let second = world.begin_generation(2).await;
        let (flushed, staged) = (world.object(&second).await, world.staged(2, "s").await);
        let later = world.object(&ObjectNamer::new(Generation(3), "w")).await;
        put(&world.journal.objects(), "notes.txt").await;
        put(&world.sinks["out"], "_weir/stranger/g1/x").await;
        put(&world.sinks["out"], "table.ndjson").await;

        let planned = gc::plan_sweep(&world.journal, &world.sinks).await.unwrap();
        assert!(world.has(&lost), "a plan changes nothing");
        let report = gc::sweep(&world.journal, &world.sinks).await.unwrap();
        assert_eq!(report, planned);
        let gone: Vec<&str> = report.gone().map(|swept| swept.object.as_str()).collect();
        assert_eq!(gone.len(), 2, "{gone:?}");
        assert!(!world.has(&lost) && !world.has(&aborted));
        for name in [&kept, &committed, &flushed, &staged, &later] {
            assert!(world.has(name), "{name}");
        }
        assert!(world.has("notes.txt") && world.has("stranger/g1/x") && world.has("table.ndjson"));
        let foreign = report.swept.iter().filter(|s| s.fate == Fate::Stays(Why::Foreign)).count();
        assert_eq!(foreign, 2);

        world.journal.note_confirmed(CheckpointId(1));
        world.journal.append(Entry::Finished(Bytes::new())).await.unwrap();
        gc::sweep(&world.journal, &world.sinks).await.unwrap();
        for name in [&committed, &flushed, &staged] {
            assert!(!world.has(name), "{name}");
        }
        assert!(world.has(&kept) && world.has(&later) && world.has("table.ndjson"));
    });
}

#[test]
fn fresh_deletes_the_jobs_files_by_name_and_nothing_else() {
    sim::run(1, async {
        let mut world = World::new().await;
        let namer = world.begin_generation(1).await;
        world.object(&namer).await;
        let staged = world.staged(1, "p").await;
        let run = world.journal.incarnation().id.clone();
        let sink = &world.sinks["out"];
        let ours = format!("out-{run}-000000000001-1-0-0.ndjson");
        let unknown = "out-deadbeef-000000000007-1-0-0.ndjson";
        let others = ["other-deadbeef-000000000007-1-0-0.ndjson", "out.ndjson", "readme.md"];
        for name in [ours.as_str(), unknown].iter().chain(&others) {
            put(sink, name).await;
        }
        put(sink, "_weir/deadbeef/g1/x").await;
        put(sink, "_weir/stranger/g1/x").await;
        let found = gc::sink_files(sink, "out").await.unwrap();
        let runs: Vec<&str> = found.iter().map(|(_, run)| run.as_str()).collect();
        assert_eq!(BTreeSet::from_iter(runs), BTreeSet::from(["deadbeef", run.as_str()]));

        let old = world.journal.incarnation().clone();
        let root = world.journal.root().clone();
        let new = NewJob { job: "demo".into(), owner: "me".into(), key_groups: 8 };
        let fresh = Journal::create(&root, &new, Some(&old)).await.unwrap();
        assert_eq!(root.dead().await.unwrap(), std::slice::from_ref(&old));
        gc::delete_sink_files(sink, "out", &BTreeSet::from([run.clone()])).await.unwrap();
        gc::delete_incarnation(&root, &old).await.unwrap();
        assert!(root.dead().await.unwrap().is_empty());
        for name in others {
            assert!(world.has(name), "{name}");
        }
        assert!(world.has("stranger/g1/x"));
        assert!(!world.has(&ours) && !world.has(unknown) && !world.has(&staged));
        assert!(!world.has("deadbeef/g1/x"));
        let state: Vec<String> = world.store.names().into_iter().map(|(name, _)| name).collect();
        let old_left = state.iter().filter(|name| name.contains(&old.to_string())).count();
        assert_eq!(old_left, 0);
        assert_eq!(fresh.state().seq, Seq(1));
    });
}

#[test]
fn a_listing_of_a_sinks_files_is_asked_for_again_after_an_error() {
    sim::run(1, async {
        let world = World::new().await;
        let sink = &world.sinks["out"];
        put(sink, "out-deadbeef-000000000001-1-0-0.ndjson").await;
        for fault in [Fault::ErrorBefore, Fault::LostAnswer] {
            world.store.plan(Planned::nth_of(Operation::List, 1, fault).at("sink"));
            let found = gc::sink_files(sink, "out").await.unwrap();
            assert_eq!(found.len(), 1);
        }
        assert_eq!(world.store.struck().values().sum::<u64>(), 2);
    });
}
