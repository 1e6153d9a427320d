//! `gc::collect`: all that may go in one go, beside a job and after it, with a crash at any call.

use std::collections::BTreeSet;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use weir_runtime::sim;
use weir_runtime::sim::store::{Fault, Operation, Planned, SimStore, SimStoreSettings};
use weir_state::gc::{self, Collect, Fate, SinkFolders, SweepReport, Why};
use weir_state::ids::{CheckpointId, Generation};
use weir_state::journal::record::{Authority, NewGeneration, Piece};
use weir_state::journal::{CompletedCheckpoint, Entry, Journal, NewJob, Root, pin};
use weir_state::names::{Incarnation, ObjectNamer, staging_folder};
use weir_state::objects::Place;
use weir_state::version::record::{VersionRecord, ViewRecord};

/// A job of which a process died: an earlier run in part, two generations, objects that are named,
/// given up, unnamed and still being written, and pieces of each kind.
struct World {
    store: SimStore,
    root: Root,
    sinks: SinkFolders,
    dead: Incarnation,
    /// As the dead process had it.
    journal: Journal,
    /// Names that must stay whoever collects.
    kept: Vec<String>,
    /// Names that the living generation left unnamed.
    living: Vec<String>,
}

fn place(store: &SimStore, folder: &str) -> Place {
    let store: Arc<dyn ObjectStore> = Arc::new(store.clone());
    Place::new(store, Path::from(folder), format!("sim://{folder}"))
}

async fn put(place: &Place, name: &str) -> String {
    place.store.put(&place.path(name), PutPayload::from_static(b"xyz")).await.unwrap();
    place.path(name).to_string()
}

fn checkpoint(id: u64, table: &str, staged: &[&str]) -> Entry {
    let view = ViewRecord { name: table.to_owned(), group_end: 8, ..ViewRecord::default() };
    let version = VersionRecord {
        step: "agg".into(),
        group_end: 8,
        views: vec![view],
        ..VersionRecord::default()
    };
    let piece = |staged: &&str| Piece {
        folder: "out".into(),
        staged: (*staged).to_owned(),
        ..Piece::default()
    };
    Entry::Checkpoint(CompletedCheckpoint {
        id: CheckpointId(id),
        versions: vec![version],
        pieces: staged.iter().map(piece).collect(),
        retained: 1,
        ..CompletedCheckpoint::default()
    })
}

impl World {
    async fn new() -> Self {
        let store = SimStore::new(SimStoreSettings::instant(1));
        let root = Root::new(place(&store, "state"));
        let sink = place(&store, "sink");
        let new = NewJob { job: "demo".into(), owner: "me".into(), key_groups: 8 };
        let first = Journal::create(&root, &new, None).await.unwrap();
        let dead = first.incarnation().clone();
        put(&first.objects(), "left").await;
        put(&sink, &format!("{}/p", staging_folder(&dead.id, Generation(1)))).await;

        let mut journal = Journal::create(&root, &new, Some(&dead)).await.unwrap();
        journal.claim("me", Authority::Owner).await.unwrap();
        let run = journal.incarnation().id.clone();
        let (mut kept, mut living) = (Vec::new(), Vec::new());
        for number in 1..=2 {
            let from = journal.state().last_checkpoint().map_or(0, |last| last.id.0);
            let generation = NewGeneration { number, from, ..NewGeneration::default() };
            journal.append(Entry::Generation(generation)).await.unwrap();
            let namer = ObjectNamer::new(Generation(number), "w");
            let (table, unnamed) = (namer.name("sst"), namer.name("sst"));
            let at = put(&journal.objects(), &table).await;
            let lost = put(&journal.objects(), &unnamed).await;
            let folder = staging_folder(&run, Generation(number));
            let piece = format!("{folder}/piece");
            let staged = put(&sink, &piece).await;
            let aborted = put(&sink, &format!("{folder}/aborted")).await;
            journal.append(checkpoint(number, &table, &[&piece])).await.unwrap();
            if number == 1 {
                // The table is given up by the next checkpoint, the piece once it is confirmed.
                journal.note_confirmed(CheckpointId(1));
            } else {
                kept.extend([at, staged]);
                living.extend([lost, aborted]);
            }
        }
        kept.push(put(&sink, "out.ndjson").await);
        kept.push(put(&sink, "_weir/stranger/g1/x").await);
        let sinks = [("out".to_owned(), sink)].into();
        Self { store, root, sinks, dead, journal, kept, living }
    }

    async fn collect(&self, how: Collect<'_>) -> SweepReport {
        let mut journal = Journal::open(&self.root).await.unwrap();
        gc::collect(&self.root, journal.as_mut(), &self.sinks, how).await.unwrap()
    }

    fn names(&self) -> BTreeSet<String> {
        self.store.names().into_iter().map(|(name, _)| name).collect()
    }

    /// What is there but for the journal's own.
    fn data(&self) -> BTreeSet<String> {
        let own = |name: &&String| {
            ["/claims/", "/journal/", "/base/"].iter().any(|part| name.contains(part))
        };
        let names = self.names();
        names.iter().filter(|name| !own(name)).cloned().collect()
    }
}

fn set(names: &[&[String]]) -> BTreeSet<String> {
    names.iter().flat_map(|names| names.iter().cloned()).collect()
}

#[test]
fn beside_a_job_nothing_that_may_live_goes() {
    sim::run(1, async {
        let world = World::new().await;
        let planned = world.collect(Collect::Plan { none_lives: false }).await;
        assert!(world.names().iter().any(|name| name.ends_with("/left")), "a plan changes nothing");
        let seq = world.journal.state().seq;
        let report = world.collect(Collect::Beside).await;
        assert_eq!(report, planned);
        assert_eq!(world.data(), set(&[&world.kept, &world.living]));
        let mut whys: Vec<Why> = report
            .gone()
            .filter_map(|swept| match swept.fate {
                Fate::Goes(why) => Some(why),
                Fate::Stays(_) => None,
            })
            .collect();
        whys.sort();
        // Two unnamed of the first generation; its table and its piece; the earlier run's record,
        // object and piece.
        let expected =
            [Why::Unnamed, Why::Unnamed, Why::DeadRun, Why::DeadRun, Why::DeadRun, Why::GivenUp];
        assert_eq!(whys[..6], expected);
        assert_eq!(whys[6..], [Why::GivenUp]);
        assert!(report.gone().all(|swept| swept.bytes >= 3), "{report:?}");
        // The job goes on as if nothing had been.
        let mut journal = world.journal;
        assert_eq!(journal.state().seq, seq);
        let namer = ObjectNamer::new(Generation(2), "w");
        journal.append(checkpoint(3, &namer.name("sst"), &[])).await.unwrap();
    });
}

#[test]
fn an_owner_of_whom_nobody_lives_takes_all_and_fences_whoever_wakes_up() {
    sim::run(1, async {
        let mut world = World::new().await;
        let planned = world.collect(Collect::Plan { none_lives: true }).await;
        let report = world.collect(Collect::Owner("me")).await;
        assert_eq!(report, planned);
        assert_eq!(world.data(), set(&[&world.kept]));
        assert_eq!(world.collect(Collect::Owner("me")).await.gone().count(), 0, "nothing is left");

        let namer = ObjectNamer::new(Generation(2), "w");
        let woken = world.journal.append(checkpoint(3, &namer.name("sst"), &[])).await;
        assert!(woken.is_err(), "{woken:?}");
        // What it writes all the same is found the next time.
        put(&world.journal.objects(), &namer.name("sst")).await;
        assert_eq!(world.collect(Collect::Beside).await.gone().count(), 1);
    });
}

#[test]
fn another_owners_generation_is_not_ended() {
    sim::run(1, async {
        let world = World::new().await;
        let before = world.names();
        let mut journal = Journal::open(&world.root).await.unwrap();
        let how = Collect::Owner("somebody else");
        let refused = gc::collect(&world.root, journal.as_mut(), &world.sinks, how).await;
        assert!(refused.unwrap_err().to_string().contains("me"));
        assert_eq!(world.names(), before);
    });
}

#[test]
fn a_pinned_earlier_run_stays() {
    sim::run(1, async {
        let world = World::new().await;
        pin(&world.root, &world.dead, "nightly", "fork", None).await.unwrap();
        let report = world.collect(Collect::Owner("me")).await;
        assert!(world.names().iter().any(|name| name.ends_with("/left")));
        let pinned = |swept: &&gc::Swept| swept.fate == Fate::Stays(Why::Pinned);
        assert!(report.swept.iter().filter(pinned).count() >= 3, "{report:?}");
    });
}

/// The crashes are tried one after the other until a collection meets none.
#[test]
fn a_crash_between_any_two_calls_resumes() {
    sim::run(1, async {
        let mut crashes = 0;
        for operation in [Operation::Delete, Operation::Create, Operation::List] {
            for nth in 1.. {
                let world = World::new().await;
                world.store.plan(Planned::nth_of(operation, nth, Fault::CrashAfter));
                let (root, sinks) = (world.root.clone(), world.sinks.clone());
                let process = sim::Process::new("gc", 0);
                let dying = async move {
                    let mut journal = Journal::open(&root).await.map_err(drop)?;
                    let how = Collect::Owner("me");
                    let done = gc::collect(&root, journal.as_mut(), &sinks, how).await;
                    done.map(drop).map_err(drop)
                };
                let outcome = process.spawn(dying).await;
                assert!(world.kept.iter().all(|name| world.names().contains(name)));
                if outcome.is_ok() {
                    assert_eq!(
                        world.store.struck().values().sum::<u64>(),
                        0,
                        "{operation:?} {nth}"
                    );
                    break;
                }
                crashes += 1;
                world.collect(Collect::Owner("me")).await;
                assert_eq!(world.data(), set(&[&world.kept]), "{operation:?} {nth}");
                assert_eq!(world.collect(Collect::Owner("me")).await.gone().count(), 0);
            }
        }
        assert!(crashes >= 12, "{crashes}");
    });
}
