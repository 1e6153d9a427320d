//! Snapshots of whole jobs, and jobs that begin from them.
//!
//! Method: a job `first` runs until a snapshot of it is there, and is killed with its workers. What
//! its sinks got after the snapshot is taken away, as a user would do, and another job goes on from the
//! snapshot, in another state folder, under another name, at another width, into the same sinks. All
//! output together is then what one job alone would have written, whatever died on the way.

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use weir_engine::coordinator::begin::restore::Origin;
use weir_engine::coordinator::snapshots::{self, SnapshotError, Wish, Wishes};
use weir_engine::coordinator::status::Phase;
use weir_engine::network::sim::{NetworkFaults, SimNetwork};
use weir_engine::objects::OneStore;
use weir_engine::pipeline::spec::JobSpec;
use weir_runtime::sim::store::{Fault, Planned, SimStore, SimStoreSettings};
use weir_runtime::{clock, random};
use weir_state::journal::{Journal, JournalError};
use weir_state::names::SinkFile;

use super::coordinator::{Running, Start, root_at};
use super::draw::Scenario;
use super::job::INPUT;
use super::life::Reached;
use super::verdict;

const SNAPSHOT: &str = "monday";
const FIRST: &str = "state";
const FORK: &str = "fork";
/// Simulated time after which a job that did not come to where it should is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The world that both jobs live in.
struct World {
    scenario: Scenario,
    store: SimStore,
    network: SimNetwork,
    starts: u32,
}

fn has_snapshot(life: &Running) -> bool {
    life.status.borrow().snapshots.contains_key(SNAPSHOT)
}

fn keep() -> Wishes {
    [(SNAPSHOT.to_owned(), Wish::Keep)].into()
}

fn drop_it() -> Wishes {
    [(SNAPSHOT.to_owned(), Wish::Drop)].into()
}

impl World {
    fn new(scenario: &Scenario) -> Self {
        let latency = Duration::from_millis(scenario.slow_ms);
        let settings = SimStoreSettings::with_latency(scenario.seed, Duration::ZERO, latency);
        let store = SimStore::new(settings);
        for (name, lines) in scenario.query.input_files() {
            store.plant(&Path::from(format!("{INPUT}/{name}")), lines);
        }
        for planned in &scenario.planned {
            store.plan(planned.clone());
        }
        let network = SimNetwork::new(NetworkFaults::none());
        Self { scenario: scenario.clone(), store, network, starts: 0 }
    }

    fn origin(&self) -> Origin {
        let snapshot = Some(SNAPSHOT.to_owned());
        Origin { root: root_at(&self.store, FIRST), snapshot, same_store: true }
    }

    fn start(&mut self, folder: &'static str, wishes: Wishes) -> Running {
        self.starts += 1;
        let first = &self.scenario.spec;
        let is_fork = folder == FORK;
        let spec = match is_fork {
            true => JobSpec { name: "fork".to_owned(), replicas: 3, slots: 2, ..first.clone() },
            false => first.clone(),
        };
        let start = Start {
            number: self.starts,
            store: self.store.clone(),
            network: self.network.clone(),
            spec,
            folder,
            owner: folder,
            origin: is_fork.then(|| self.origin()),
            kept: None,
            wish: 0,
            wishes,
            is_fresh: false,
        };
        start.start()
    }

    /// Runs `folder`'s job until `is_there`, or it is finished; whoever dies is started again.
    async fn until(
        &mut self,
        folder: &'static str,
        wishes: &Wishes,
        mut is_there: impl FnMut(&Running) -> bool,
    ) -> Result<Running, String> {
        let stuck = clock::now() + STUCK_AFTER;
        let mut life = self.start(folder, wishes.clone());
        loop {
            clock::sleep(LOOK_EVERY).await;
            if is_there(&life) {
                return Ok(life);
            }
            let end = life.take_end();
            match end {
                Some(Ok(Phase::Finished)) => return Ok(life),
                Some(Ok(Phase::Failed(why))) => return Err(format!("{folder} failed: {why}")),
                Some(Err(why)) if why.contains("restoreFrom") => return Err(why),
                None if !life.process.is_killed() => {}
                _ => {
                    life.kill();
                    clock::sleep(Duration::from_millis(100)).await;
                    life = self.start(folder, wishes.clone());
                }
            }
            if clock::now() > stuck {
                let (starts, status) = (self.starts, life.status.borrow().clone());
                return Err(format!("{folder} is stuck after {starts} starts: {status:?}"));
            }
        }
    }

    /// The first job lives until its snapshot is there, which is wished `after` it began.
    async fn first(&mut self, after: Duration, reached: &mut Reached) -> Result<(), String> {
        let wished = clock::now() + after;
        let life = self
            .until(FIRST, &Wishes::new(), |life| {
                if clock::now() >= wished {
                    life.wishes.send_if_modified(|wishes| {
                        let is_new = wishes.is_empty();
                        *wishes = keep();
                        is_new
                    });
                }
                has_snapshot(life)
            })
            .await?;
        // It goes on for a while: what it writes then is the fork's to write.
        clock::sleep(Duration::from_millis(random::below(300))).await;
        life.kill();
        // What it had sent lands.
        clock::sleep(Duration::from_secs(5)).await;
        let root = root_at(&self.store, FIRST);
        let kept =
            match snapshots::find(&root, SNAPSHOT).await.map_err(|error| error.to_string())? {
                Some(found) => {
                    reached.count("snapshot of a running job", 1);
                    found.kept
                }
                None => {
                    reached.count("snapshot of a finished job", 1);
                    snapshots::name(&root, SNAPSHOT).await.map_err(|error| error.to_string())?
                }
            };
        for (name, _) in self.store.names() {
            let file = name.split_once('/').and_then(|(_, name)| SinkFile::parse(name));
            if file.is_some_and(|file| file.checkpoint > kept.checkpoint) {
                reached.count("output after the snapshot", 1);
                self.store.uproot(&Path::from(name));
            }
        }
        Ok(())
    }

    /// The fork lives to its end; once it has begun, nothing of the first job's state is left.
    async fn fork(&mut self) -> Result<(), String> {
        let store = self.store.clone();
        let mut is_alone = false;
        let life = self
            .until(FORK, &Wishes::new(), |life| {
                if !is_alone && life.status.borrow().generation.0 > 0 {
                    is_alone = true;
                    for (name, _) in store.names() {
                        if name.starts_with("state/") {
                            store.uproot(&Path::from(name));
                        }
                    }
                }
                false
            })
            .await?;
        clock::sleep(Duration::from_secs(60)).await;
        life.kill();
        Ok(())
    }

    fn check(&self, reached: &mut Reached) -> Result<(), String> {
        verdict::check_written(&self.scenario, &self.store, reached)
    }
}

fn scenarios() -> [fn() -> Scenario; 2] {
    [Scenario::quiet, Scenario::quiet_windows_of_files]
}

fn in_sim<T>(
    scenario: &Scenario,
    life: impl AsyncFnOnce(World) -> Result<T, String>,
) -> Result<T, String> {
    weir_runtime::sim::run(scenario.seed, async move { life(World::new(scenario)).await })
}

/// A snapshot and a fork of it, at many moments.
#[test]
fn a_fork_goes_on_where_its_snapshot_was_taken() {
    let mut reached = Reached::default();
    for job in scenarios() {
        for moment in 0..12 {
            let mut scenario = job();
            scenario.seed = 300 + moment;
            let after = Duration::from_millis(70 * moment);
            let told = in_sim(&scenario, async |mut world| {
                let mut reached = Reached::default();
                world.first(after, &mut reached).await?;
                world.fork().await?;
                world.check(&mut reached)?;
                Ok(reached)
            });
            reached.add(&told.unwrap_or_else(|why| panic!("moment {moment}: {why}")));
        }
    }
    for what in
        ["snapshot of a running job", "snapshot of a finished job", "output after the snapshot"]
    {
        assert!(reached.0.get(what).is_some_and(|times| *times > 0), "{what} never happened");
    }
}

/// Naming: a crash before and after each object call that comes after the wish.
#[test]
fn a_crash_anywhere_while_a_snapshot_is_named_loses_neither_it_nor_output() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::LostAnswer] {
        for nth in (1..=90).step_by(if std::env::var_os("WEIR_TEST_ALL").is_some() { 1 } else { 2 })
        {
            let mut scenario = Scenario::quiet();
            scenario.planned = vec![Planned::nth_call(nth, fault).at("state/")];
            let told = in_sim(&scenario, async |mut world| {
                let mut reached = Reached::default();
                let life = world.until(FIRST, &keep(), has_snapshot).await?;
                life.kill();
                clock::sleep(Duration::from_secs(5)).await;
                // The whole job: the snapshot is wished away again, and all that it held goes.
                let life = world.until(FIRST, &drop_it(), |_| false).await?;
                clock::sleep(Duration::from_secs(60)).await;
                life.kill();
                let root = root_at(&world.store, FIRST);
                let mut found = snapshots::find(&root, SNAPSHOT).await;
                if found.as_ref().is_ok_and(Option::is_some) {
                    // It was finished before anybody could wish.
                    reached.count("dropped of a finished job", 1);
                    let objects = OneStore(Arc::new(world.store.clone()));
                    let dropped = snapshots::drop_snapshot(&root, &objects, SNAPSHOT).await;
                    dropped.map_err(|error| error.to_string())?;
                    found = snapshots::find(&root, SNAPSHOT).await;
                }
                if !matches!(found, Ok(None)) {
                    return Err(format!("the snapshot is still there: {found:?}"));
                }
                world.check(&mut reached)?;
                verdict::check_state(&world.store).await
            });
            assert_eq!(told, Ok(()), "{fault:?} {nth}");
        }
    }
}

/// Restoring: a crash before and after each object call in the fork's folder.
#[test]
fn a_crash_anywhere_while_a_fork_begins_changes_no_output() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::LostAnswer] {
        for nth in 1..=36 {
            let mut scenario = Scenario::quiet();
            scenario.planned = vec![Planned::nth_call(nth, fault).at("fork/")];
            let told = in_sim(&scenario, async |mut world| {
                let mut reached = Reached::default();
                world.first(Duration::from_millis(250), &mut reached).await?;
                world.fork().await?;
                world.check(&mut reached)
            });
            assert_eq!(told, Ok(()), "{fault:?} {nth}");
        }
    }
}

/// A fork begins while its snapshot is deleted: it has all of it, or is refused and has nothing.
#[test]
fn a_fork_while_its_snapshot_is_deleted_has_all_of_it_or_nothing() {
    let mut reached = Reached::default();
    for moment in 0..40 {
        let mut scenario = Scenario::quiet();
        scenario.seed = 400 + moment;
        let told = in_sim(&scenario, async |mut world| {
            let mut reached = Reached::default();
            world.first(Duration::from_millis(250), &mut reached).await?;
            let (root, store) = (root_at(&world.store, FIRST), world.store.clone());
            let deleting = weir_runtime::task::spawn(async move {
                clock::sleep(Duration::from_millis(4 * moment)).await;
                let objects = OneStore(Arc::new(store));
                for attempt in 0..1_000 {
                    match snapshots::drop_snapshot(&root, &objects, SNAPSHOT).await {
                        Ok(()) => return Ok(attempt),
                        Err(SnapshotError::Journal(JournalError::Pinned { .. })) => {}
                        Err(error) => return Err(error.to_string()),
                    }
                    clock::sleep(Duration::from_millis(20)).await;
                }
                Err("it is pinned for ever".to_owned())
            });
            let forked = world.until(FORK, &Wishes::new(), |_| false).await;
            let waited = deleting.await.map_err(|error| error.to_string())??;
            reached.count("deletion waited for a fork", u64::from(waited > 0));
            match forked {
                Ok(_) => {
                    reached.count("fork has all", 1);
                    world.check(&mut reached)?;
                }
                Err(why) => {
                    reached.count("fork has nothing", 1);
                    let journal = Journal::open(&root_at(&world.store, FORK)).await;
                    let journal = journal.map_err(|error| error.to_string())?;
                    if journal.is_some_and(|journal| !journal.state().is_untouched()) {
                        return Err(format!("{why}, and it has a state"));
                    }
                }
            }
            Ok(reached)
        });
        reached.add(&told.unwrap_or_else(|why| panic!("moment {moment}: {why}")));
    }
    for what in ["fork has all", "fork has nothing", "deletion waited for a fork"] {
        assert!(reached.0.get(what).is_some_and(|times| *times > 0), "{what} never happened");
    }
}

/// A fork that died and never comes back: its pin expires, and then the snapshot goes.
#[test]
fn a_pin_whose_fork_died_holds_its_snapshot_for_an_hour_only() {
    let scenario = Scenario::quiet();
    let told = in_sim(&scenario, async |mut world| {
        world.first(Duration::from_millis(250), &mut Reached::default()).await?;
        let life = world.start(FORK, Wishes::new());
        let is_pinned = |store: &SimStore| {
            store
                .names()
                .iter()
                .any(|(name, _)| name.contains("/pins/") && !name.ends_with("deleted"))
        };
        for _ in 0..2_000 {
            clock::sleep(Duration::from_millis(1)).await;
            if is_pinned(&world.store) {
                break;
            }
        }
        life.kill();
        clock::sleep(Duration::from_secs(1)).await;
        let (root, objects) =
            (root_at(&world.store, FIRST), OneStore(Arc::new(world.store.clone())));
        let held = snapshots::drop_snapshot(&root, &objects, SNAPSHOT).await;
        if !matches!(held, Err(SnapshotError::Journal(JournalError::Pinned { .. }))) {
            return Err(format!("nothing holds it: {held:?}"));
        }
        clock::sleep(Duration::from_secs(3_700)).await;
        snapshots::drop_snapshot(&root, &objects, SNAPSHOT).await.map_err(|error| error.to_string())
    });
    assert_eq!(told, Ok(()));
}
