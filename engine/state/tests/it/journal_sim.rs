//! Several coordinators race for one job's journal on a faulty store, under a seed.
//!
//! Method: processes claim, begin generations, upload objects, append checkpoints, delete and sweep,
//! fall asleep for long, are killed at any object call, and come back. Whoever reads or writes the
//! journal notes the state that he sees at its number: all must agree (one linear history). Whatever
//! a state names must be there at each append. At the end, healed and swept, nothing else is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use weir_runtime::sim::store::{FaultRates, SimStore, SimStoreSettings};
use weir_runtime::sim::{self, Process};
use weir_runtime::{clock, random};
use weir_state::gc::{self, SinkFolders};
use weir_state::ids::{CheckpointId, Generation, KeyGroupRange, Seq};
use weir_state::journal::record::{Authority, NewGeneration, Piece, Plan, StepBytes, SubtaskPlace};
use weir_state::journal::{
    CompletedCheckpoint, Entry, JobState, Journal, JournalError, NewJob, Remedy, Root,
};
use weir_state::names::{ObjectNamer, staging_folder};
use weir_state::objects::Place;
use weir_state::version::record::{VersionRecord, ViewRecord};

const KEY_GROUPS: u16 = 16;
const SINK: &str = "out";

/// What all processes saw and did, kept outside of them.
#[derive(Debug, Default)]
struct Ledger {
    /// The state seen at each number of each incarnation, as text.
    states: BTreeMap<(String, Seq), u64>,
    /// Who was told that a number is his.
    winners: BTreeMap<(String, Seq), String>,
    appended: u64,
    lost: u64,
    stopped: u64,
}

#[derive(Clone)]
struct World {
    store: SimStore,
    ledger: Arc<Mutex<Ledger>>,
    base_every: u64,
    fresh_per_mille: u64,
}

impl World {
    fn root(&self) -> Root {
        let store: Arc<dyn ObjectStore> = Arc::new(self.store.clone());
        let place = Place::new(store, Path::from("job/state"), "sim://job/state");
        // Some give up early on a put without an answer, and settle its fate with the next one.
        let settle_max = Duration::from_millis(random::below(2) * 20_000);
        Root { base_every: self.base_every, settle_max, ..Root::new(place) }
    }

    fn sinks(&self) -> SinkFolders {
        let store: Arc<dyn ObjectStore> = Arc::new(self.store.clone());
        [(SINK.to_owned(), Place::new(store, Path::from("sink"), "sim://sink"))].into()
    }

    /// Notes what `who` sees; panics when somebody saw something else at this number.
    fn saw(&self, who: &str, journal: &Journal) {
        let state = journal.state();
        let seen = hash(&format!("{state:?}"));
        let key = (journal.incarnation().to_string(), state.seq);
        let mut ledger = self.ledger.lock().unwrap();
        let first = *ledger.states.entry(key.clone()).or_insert(seen);
        assert_eq!(first, seen, "{who} sees another history at {key:?}: {state:#?}");
    }

    /// Notes that `who` was told that `seq` is his.
    fn won(&self, who: &str, journal: &Journal, seq: Seq) {
        self.saw(who, journal);
        let key = (journal.incarnation().to_string(), seq);
        let mut ledger = self.ledger.lock().unwrap();
        ledger.appended += 1;
        if let Some(other) = ledger.winners.insert(key.clone(), who.to_owned()) {
            panic!("{key:?} was won by {other} and by {who}");
        }
    }

    /// What the journal's last state names is there.
    fn check_nothing_named_is_missing(&self, journal: &Journal) {
        let objects = journal.objects();
        for name in journal.state().named_objects() {
            let there = self.store.peek(&objects.path(name)).is_some();
            assert!(there, "{name} is named at {} and missing", journal.state().seq);
        }
        for (_, staged) in journal.state().staged_pieces() {
            let there = self.store.peek(&Path::from(format!("sink/{staged}"))).is_some();
            assert!(there, "{staged} is not confirmed and missing");
        }
    }
}

fn hash(text: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

fn chance(per_mille: u64) -> bool {
    random::below(1_000) < per_mille
}

async fn nap(most_ms: u64) {
    clock::sleep(Duration::from_millis(random::below(most_ms) + 1)).await;
}

/// What the workers of one generation hold.
struct Workers {
    generation: Generation,
    namer: ObjectNamer,
    shards: Vec<VersionRecord>,
}

impl Workers {
    /// Opens the last checkpoint at some width: clip and merge.
    fn open(state: &JobState, who: &str, width: u32) -> Self {
        let generation = state.generation_number();
        let old: Vec<ViewRecord> = state
            .last_checkpoint()
            .map(|last| last.shards.values().flat_map(|shard| shard.views.clone()).collect())
            .unwrap_or_default();
        let shard = |index| {
            let range = KeyGroupRange::of_subtask(index, width, KEY_GROUPS);
            let (start, end) = (u32::from(range.start), u32::from(range.end));
            let clip = |view: &ViewRecord| {
                let group_start = view.group_start.max(start);
                let group_end = view.group_end.min(end);
                let inside = group_start < group_end;
                inside.then(|| ViewRecord { group_start, group_end, ..view.clone() })
            };
            VersionRecord {
                step: "agg".into(),
                group_start: start,
                group_end: end,
                views: old.iter().filter_map(clip).collect(),
                next_seq: 100,
            }
        };
        let shards = (0..width).map(shard).collect();
        Self { generation, namer: ObjectNamer::new(generation, who), shards }
    }

    /// Flushes and compacts some; names of objects that came and went unnamed.
    async fn work(&mut self, objects: &Place) -> Vec<String> {
        let mut unnamed = Vec::new();
        for index in 0..self.shards.len() {
            for _ in 0..random::below(3) {
                let flushed = self.write(objects).await;
                let shard = &mut self.shards[index];
                let Some(name) = flushed else { continue };
                if chance(100) {
                    // Compacted away before any record names it.
                    unnamed.push(name);
                    continue;
                }
                let (group_start, group_end) = (shard.group_start, shard.group_end);
                shard.next_seq += 1;
                let seq = shard.next_seq;
                let view =
                    ViewRecord { name, group_start, group_end, seq, ..ViewRecord::default() };
                shard.views.push(view);
            }
            if self.shards[index].views.len() > 4
                && let Some(name) = self.write(objects).await
            {
                let shard = &mut self.shards[index];
                let (group_start, group_end) = (shard.group_start, shard.group_end);
                shard.views.truncate(1);
                let view =
                    ViewRecord { name, group_start, group_end, level: 1, ..ViewRecord::default() };
                shard.views.push(view);
            }
        }
        unnamed
    }

    /// Uploads an object; `None` when the store would not.
    async fn write(&self, objects: &Place) -> Option<String> {
        let name = self.namer.name("sst");
        let path = objects.path(&name);
        for _ in 0..5 {
            match objects.store.put(&path, Bytes::from_static(b"table").into()).await {
                Ok(_) => return Some(name),
                Err(_) => nap(50).await,
            }
        }
        None
    }
}

fn new_job(owner: &str) -> NewJob {
    NewJob { job: "demo".into(), owner: owner.into(), key_groups: KEY_GROUPS }
}

/// One life of a coordinator process with its workers.
async fn coordinator(world: World, who: String, owner: &'static str) -> Result<(), JournalError> {
    let root = world.root();
    let mut journal = match Journal::open(&root).await? {
        Some(journal) if chance(world.fresh_per_mille) => {
            Journal::create(&root, &new_job(owner), Some(journal.incarnation())).await?
        }
        Some(journal) => journal,
        None => Journal::create(&root, &new_job(owner), None).await?,
    };
    world.saw(&who, &journal);
    for dead in root.dead().await? {
        // A late effect of its last coordinator can leave something; the end cleans again.
        drop(gc::delete_incarnation(&root, &dead).await);
    }
    let authority = if chance(500) { Authority::TakeOver } else { Authority::Owner };
    journal.claim(owner, authority).await?;
    world.saw(&who, &journal);
    if journal.state().plan.is_none() {
        let plan = Plan { pipeline: Bytes::from(who.clone()), ..Plan::default() };
        append(&world, &who, &mut journal, |_| Some(Entry::Plan(plan.clone()))).await?;
    }
    for _ in 0..random::below(3) + 1 {
        reign(&world, &who, &mut journal).await?;
    }
    if chance(50) {
        append(&world, &who, &mut journal, |_| Some(Entry::Released)).await?;
    }
    Ok(())
}

/// One generation.
async fn reign(world: &World, who: &str, journal: &mut Journal) -> Result<(), JournalError> {
    let width = u32::try_from(random::below(3) + 1).unwrap();
    append(world, who, journal, |state| Some(Entry::Generation(generation(state, who, width))))
        .await?;
    let mut workers = Workers::open(journal.state(), who, width);
    let sinks = world.sinks();
    drop(gc::sweep(journal, &sinks).await);
    for _ in 0..random::below(6) {
        if chance(50) {
            // Long enough for others to move the floor.
            nap(120_000).await;
        }
        let mut unnamed = workers.work(&journal.objects()).await;
        // A worker that reports too much must do no harm.
        unnamed.extend(journal.state().named_objects().first().map(|name| (*name).to_owned()));
        let pieces = stage(world, journal, workers.generation).await;
        if chance(200) {
            // The daily sweep, of a coordinator that may be superseded by now.
            drop(gc::sweep(journal, &sinks).await);
        }
        let mark = Bytes::from(format!("{who} {}", random::u64()));
        let versions = workers.shards.clone();
        let completed = |state: &JobState| {
            let last = state.last_checkpoint();
            if last.is_some_and(|last| last.sources.iter().any(|source| source.bytes == mark)) {
                // It was recorded by a put whose answer was lost.
                return None;
            }
            let last = last.map_or(CheckpointId(0), |last| last.id);
            Some(Entry::Checkpoint(CompletedCheckpoint {
                id: last.next(),
                versions: versions.clone(),
                sources: vec![StepBytes { step: "source".into(), bytes: mark.clone() }],
                pieces: pieces.clone(),
                retained: 2,
                ..CompletedCheckpoint::default()
            }))
        };
        append(world, who, journal, completed).await?;
        world.check_nothing_named_is_missing(journal);
        let last = journal.state().last_checkpoint().unwrap().id;
        if chance(800) {
            journal.note_confirmed(last);
        }
        if let Ok(Some(through)) = gc::delete_condemned(journal, &sinks).await {
            journal.note_deleted(through);
        }
        drop(gc::delete_unnamed(journal, &unnamed).await);
        nap(500).await;
    }
    Ok(())
}

/// Stages a piece of output now and then.
async fn stage(world: &World, journal: &Journal, generation: Generation) -> Vec<Piece> {
    let folder = staging_folder(&journal.incarnation().id, generation);
    let staged = format!("{folder}/{}.staged", random::id());
    let path = Path::from(format!("sink/{staged}"));
    match world.store.put(&path, Bytes::from_static(b"rows").into()).await {
        Ok(_) if chance(700) => {
            let (folder, step) = (SINK.to_owned(), SINK.to_owned());
            vec![Piece { step, folder, staged, ..Piece::default() }]
        }
        _ => Vec::new(),
    }
}

fn generation(state: &JobState, who: &str, width: u32) -> NewGeneration {
    let place = |index| {
        let range = KeyGroupRange::of_subtask(index, width, KEY_GROUPS);
        let (group_start, group_end) = (range.start.into(), range.end.into());
        SubtaskPlace { worker: who.to_owned(), group_start, group_end }
    };
    NewGeneration {
        number: state.generation_number().next().0,
        subtasks: (0..width).map(place).collect(),
        from: state.last_checkpoint().map_or(0, |last| last.id.0),
        ..NewGeneration::default()
    }
}

/// Appends what `decide` says of the present state, and decides again when the number was lost.
async fn append(
    world: &World,
    who: &str,
    journal: &mut Journal,
    decide: impl Fn(&JobState) -> Option<Entry>,
) -> Result<(), JournalError> {
    loop {
        let Some(entry) = decide(journal.state()) else { return Ok(()) };
        let before = journal.state().clone();
        match journal.append(entry).await {
            Ok(seq) => {
                assert_eq!(seq, before.seq.next());
                world.won(who, journal, seq);
                return Ok(());
            }
            Err(error) if error.remedy() == Remedy::DecideAgain => {
                world.ledger.lock().unwrap().lost += 1;
                world.saw(who, journal);
                if journal.state().generation_number() != before.generation_number() {
                    // Its own record after all: what it decides next starts from there.
                    return Ok(());
                }
            }
            Err(error) if error.remedy() == Remedy::Retry => nap(500).await,
            Err(JournalError::Refused { what, .. }) => {
                // Only a decision on workers of an older generation can be out of place.
                assert!(what.contains("checkpoint"), "{what}");
                return Ok(());
            }
            Err(error) => {
                if error.remedy() == Remedy::StopWriting {
                    world.ledger.lock().unwrap().stopped += 1;
                }
                return Err(error);
            }
        }
    }
}

struct Outcome {
    trace: u64,
    appended: u64,
    lost: u64,
    stopped: u64,
    crashed: u64,
}

fn simulate(seed: u64, base_every: u64, fresh_per_mille: u64, faults: FaultRates) -> Outcome {
    sim::run(seed, async {
        let ms = Duration::from_millis;
        let settings = SimStoreSettings::with_latency(seed, ms(1), ms(60));
        let store = SimStore::new(SimStoreSettings { faults, ..settings });
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let world = World { store: store.clone(), ledger, base_every, fresh_per_mille };
        let mut crashed = 0;
        let mut lives = Vec::new();
        for life in 0..8 {
            let who = format!("p{life}");
            let owner = if life % 3 == 2 { "other" } else { "owner" };
            let process = Process::new(who.clone(), 0);
            lives.push((process.clone(), process.spawn(coordinator(world.clone(), who, owner))));
            nap(20_000).await;
            if chance(100) {
                process.kill();
            }
        }
        for (process, life) in lives {
            match life.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => drop(error.to_string()),
                Err(error) if error.is_cancelled() => crashed += u64::from(process.is_killed()),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        store.set_faults(FaultRates::default());
        clock::sleep(FaultRates::LATE_MAX).await;
        end_and_check(&world).await;
        let ledger = world.ledger.lock().unwrap();
        let (appended, lost, stopped) = (ledger.appended, ledger.lost, ledger.stopped);
        Outcome { trace: store.trace_hash(), appended, lost, stopped, crashed }
    })
}

/// A last coordinator finishes the job and sweeps; then all that is there is named.
async fn end_and_check(world: &World) {
    let (root, sinks) = (world.root(), world.sinks());
    let mut journal = match Journal::open(&root).await.unwrap() {
        Some(journal) => journal,
        None => Journal::create(&root, &new_job("owner"), None).await.unwrap(),
    };
    world.saw("end", &journal);
    journal.claim("end", Authority::TakeOver).await.unwrap();
    world.check_nothing_named_is_missing(&journal);
    let unconfirmed: Vec<CheckpointId> = journal.state().unconfirmed.keys().copied().collect();
    for checkpoint in unconfirmed {
        journal.note_confirmed(checkpoint);
    }
    let generation = generation(journal.state(), "end", 1);
    journal.append(Entry::Generation(generation)).await.unwrap();
    journal.append(Entry::Finished(Bytes::from_static(b"done"))).await.unwrap();
    world.saw("end", &journal);
    for dead in root.dead().await.unwrap() {
        gc::delete_incarnation(&root, &dead).await.unwrap();
    }
    gc::sweep(&journal, &sinks).await.unwrap();
    world.check_nothing_named_is_missing(&journal);

    let again = Journal::open(&root).await.unwrap().unwrap();
    assert_eq!(again.state(), journal.state());
    let objects = journal.objects().prefix;
    let named: BTreeSet<Path> = journal
        .state()
        .named_objects()
        .into_iter()
        .map(|name| objects.clone().join(name))
        .collect();
    let folder = journal.place().prefix.clone();
    for (name, _) in world.store.names() {
        let path = Path::from(name.as_str());
        let of_journal =
            ["journal", "base"].iter().any(|part| path.prefix_matches(&folder.clone().join(*part)));
        let claim = path.prefix_matches(&Path::from("job/state/claims")) && !name.contains("probe");
        assert!(named.contains(&path) || of_journal || claim, "{name} is left and not named");
    }
    let records = world.store.names().iter().filter(|(name, _)| name.contains("/journal/")).count();
    // Bases whose writing failed come with a later record.
    let most = 2 * world.base_every + 8;
    assert!(records as u64 <= most, "{records} records are left, {most} would do");
}

fn some_faults() -> FaultRates {
    FaultRates {
        error_before: 10,
        lost_answer: 10,
        late: 10,
        exists_without_landing: 20,
        crash_before: 4,
        crash_after: 4,
    }
}

fn seeds() -> Vec<u64> {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        return vec![seed];
    }
    let count = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(200);
    (0..count).collect()
}

/// Runs a scenario for every seed and names the one that fails.
fn for_each_seed(what: &str, run: impl Fn(u64) -> Outcome) -> Outcome {
    let mut sum = Outcome { trace: 0, appended: 0, lost: 0, stopped: 0, crashed: 0 };
    for seed in seeds() {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed)));
        let outcome = outcome.unwrap_or_else(|_| panic!("{what}: SEED={seed} fails, see above"));
        sum.appended += outcome.appended;
        sum.lost += outcome.lost;
        sum.stopped += outcome.stopped;
        sum.crashed += outcome.crashed;
    }
    sum
}

#[test]
fn racing_coordinators_make_one_history_and_lose_nothing() {
    let sum = for_each_seed("race", |seed| simulate(seed, 5, 0, some_faults()));
    if seeds().len() >= 200 {
        // The scenario is worth nothing when nothing happens in it.
        let (appended, lost, stopped) = (sum.appended, sum.lost, sum.stopped);
        assert!(appended > 4_000, "{appended} records");
        assert!(lost > 20, "{lost} lost numbers");
        assert!(stopped > 50, "{stopped} fenced coordinators");
        assert!(sum.crashed > 200, "{} crashes", sum.crashed);
    }
}

#[test]
fn new_incarnations_void_the_old_ones() {
    for_each_seed("fresh", |seed| simulate(seed, 7, 300, some_faults()));
}

/// Readers open the journal again and again while its floor moves with every record.
fn read_under_a_moving_floor(seed: u64) -> Outcome {
    sim::run(seed, async {
        let ms = Duration::from_millis;
        let store = SimStore::new(SimStoreSettings::with_latency(seed, ms(1), ms(200)));
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let world = World { store, ledger, base_every: 1, fresh_per_mille: 0 };
        let mut journal = Journal::create(&world.root(), &new_job("owner"), None).await.unwrap();
        journal.claim("owner", Authority::Owner).await.unwrap();
        let end = Arc::new(Mutex::new(journal.state().seq));
        let reader = |name: &'static str| {
            let (world, end) = (world.clone(), Arc::clone(&end));
            weir_runtime::task::spawn(async move {
                let mut kept = Journal::open(&world.root()).await.unwrap().unwrap();
                for _ in 0..15 {
                    let before = *end.lock().unwrap();
                    let opened = Journal::open(&world.root()).await.unwrap().unwrap();
                    world.saw(name, &opened);
                    assert!(opened.state().seq >= before, "{name} misses what was there before");
                    kept.refresh().await.unwrap();
                    world.saw(name, &kept);
                    assert!(kept.state().seq >= before, "{name} misses what was there before");
                }
            })
        };
        let readers = [reader("r1"), reader("r2"), reader("r3")];
        for number in 0..30 {
            let pipeline = Bytes::from(format!("{number}"));
            let seq = journal.append(Entry::Plan(Plan { pipeline, ..Plan::default() })).await;
            *end.lock().unwrap() = seq.unwrap();
            world.saw("writer", &journal);
        }
        for reader in readers {
            reader.await.unwrap();
        }
        let trace = world.store.trace_hash();
        Outcome { trace, appended: 30, lost: 0, stopped: 0, crashed: 0 }
    })
}

#[test]
fn readers_see_all_that_was_there_before_while_the_floor_moves() {
    for_each_seed("readers", read_under_a_moving_floor);
}

#[test]
fn a_seed_repeats_its_run_exactly_and_seeds_differ() {
    let trace = |seed| simulate(seed, 5, 100, some_faults()).trace;
    for seed in 0..5 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
    let traces: BTreeSet<u64> = (0..20).map(trace).collect();
    assert_eq!(traces.len(), 20);
}
