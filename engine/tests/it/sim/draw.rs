//! A job and its faults from a seed.

use std::time::Duration;

use weir_engine::network::sim::Crash;
use weir_engine::pipeline::spec::{
    CheckpointPolicy, CompactionPolicy, FailoverPolicy, JobSpec, Order, RescalePolicy, SourceKind,
    TumbleSpec, Verb, WindowSpec,
};
use weir_runtime::sim::store::Planned;

use super::job::{Behind, Computed, Input, Query};

/// splitmix64 (Steele et al. 2014).
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn millis(&mut self, limit: u64) -> Duration {
        Duration::from_millis(self.below(limit))
    }
}

/// Something done to the job from outside, this long after the step before.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Blow {
    /// A worker is killed.
    Worker(u64),
    /// The coordinator is killed; its workers die up to ten seconds later.
    Coordinator { orphans_live: Duration },
    /// A second coordinator starts while the first still lives: it is stale from then on.
    Second,
    /// A worker is cut off for a while, and wakes up again. When it was given up meanwhile it is stale.
    CutOff { worker: u64, lasts: Duration },
    /// Two workers do not reach each other for a while, though the coordinator reaches both. Their
    /// connections break at once, or what is sent waits.
    Apart { workers: u64, breaks: bool, lasts: Duration },
    /// So many replicas and slots are wanted from now on.
    Rescale { replicas: u32, slots: u32 },
    /// The replicas and slots of the beginning are wanted again.
    Back,
    /// A checkpoint is asked for.
    Ask,
    /// A worker is asked to end in order.
    Leave(u64),
    /// The worker that was started last is killed.
    NewWorker,
    /// The coordinator is killed, all that the job wrote is deleted, and it begins anew while its
    /// first workers go on.
    Deleted,
    /// The same, and the coordinator goes on too.
    DeletedBeneath,
    /// A compactor is killed, or cut off for a while.
    Compactor { which: u64, cut_off: Option<Duration> },
    /// A second coordinator begins with `--fresh` while the first and its workers go on.
    Fresh,
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) spec: JobSpec,
    pub(crate) query: Query,
    /// Workers outlive their coordinator and are taken over by the next one.
    pub(crate) keeps_workers: bool,
    /// The coordinator is killed when all rows are read and the last checkpoint is not recorded yet.
    pub(crate) kills_at_end: bool,
    pub(crate) blows: Vec<(Duration, Blow)>,
    /// Errors, lost and late answers, crashes at object calls.
    pub(crate) faulty_store: bool,
    /// Delays, breaks, duplicates; crashes at sends.
    pub(crate) faulty_network: bool,
    pub(crate) slow_ms: u64,
    /// How long a listing takes at most.
    pub(crate) list_ms: u64,
    /// Faults at certain object calls.
    pub(crate) planned: Vec<Planned>,
    /// A process is killed at this send (from 1) of the whole network.
    pub(crate) crash_at: Option<(u64, Crash)>,
    /// Logs and object calls are printed.
    pub(crate) is_shown: bool,
}

impl Scenario {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut draw = Draw(seed ^ 0x5eed);
        let width = (1 + draw.below(3), 1 + draw.below(2));
        let query = Query::draw(&mut draw, width == (1, 1));
        let small = |number| u32::try_from(number).expect("small");
        let mut spec = job(&mut draw, &query, (small(width.0), small(width.1)));
        let mut blows = Vec::new();
        // The life of a group depends on the order of its rows, so on the width.
        if !query.has_ttl() && draw.below(2) == 0 {
            (0..=draw.below(2)).for_each(|_| blows.extend(rescale(&mut draw)));
            // Long enough for new workers to start.
            if let Verb::Source(source) = &mut spec.pipeline[0].verb {
                source.rate = Some(500 + draw.below(1_500));
            }
        }
        blows.extend((0..draw.below(4)).map(|_| blow(&mut draw)));
        spec.compaction = compaction(seed, &mut blows);
        let slow_ms = 1 + draw.below(20);
        Self {
            seed,
            spec,
            query,
            keeps_workers: draw.below(2) == 0,
            kills_at_end: draw.below(3) == 0,
            blows,
            faulty_store: draw.below(2) == 0,
            faulty_network: draw.below(2) == 0,
            slow_ms,
            list_ms: slow_ms * [1, 50][usize::try_from(draw.below(2)).expect("small")],
            planned: Vec::new(),
            crash_at: None,
            is_shown: false,
        }
    }

    /// A short job on two workers to which nothing happens by chance.
    pub(crate) fn quiet() -> Self {
        let window = WindowSpec::Tumble(TumbleSpec { size_ms: 100, offset_ms: 0 });
        Self::quiet_of(Query {
            input: Input::Keys,
            events: 1_600,
            distinct: 10,
            delay_ms: 0,
            with_union: false,
            with_raw: true,
            computed: Computed::Windows { window, emit: None, lateness_ms: 0 },
            behind: Behind::Nothing,
            with_files: true,
            table: None,
            has_late: false,
        })
    }

    /// As [`Scenario::quiet`], of running totals, groups over them, and a table of those.
    pub(crate) fn quiet_table() -> Self {
        Self::quiet_of(Query {
            input: Input::Files { files: 3, disorder_ms: 40 },
            events: 700,
            distinct: 10,
            delay_ms: 40,
            with_union: false,
            with_raw: false,
            computed: Computed::Totals { ttl_ms: None },
            behind: Behind::Stacked,
            with_files: true,
            table: Some(Some(120)),
            has_late: false,
        })
    }

    /// As [`Scenario::quiet`], with a compactor and more to compact.
    pub(crate) fn quiet_compaction() -> Self {
        let mut scenario = Self::quiet();
        scenario.spec.checkpoint.interval_ms = 60;
        scenario.spec.compaction =
            CompactionPolicy { remote: true, min_replicas: 1, max_replicas: 1 };
        scenario
    }

    /// As [`Scenario::quiet`], of ndjson files.
    pub(crate) fn quiet_windows_of_files() -> Self {
        let quiet = Self::quiet().query;
        let input = Input::Files { files: 5, disorder_ms: 0 };
        Self::quiet_of(Query { input, events: 800, ..quiet })
    }

    fn quiet_of(query: Query) -> Self {
        let mut spec = job(&mut Draw(1), &query, (2, 1));
        spec.checkpoint.interval_ms = 100;
        spec.checkpoint.timeout_ms = 30_000;
        spec.order = Order::Relaxed;
        if let Verb::Source(source) = &mut spec.pipeline[0].verb {
            source.rate = Some(2_000);
        }
        Self {
            seed: 1,
            spec,
            query,
            keeps_workers: false,
            kills_at_end: false,
            blows: Vec::new(),
            faulty_store: false,
            faulty_network: false,
            slow_ms: 5,
            list_ms: 5,
            planned: Vec::new(),
            crash_at: None,
            is_shown: false,
        }
    }

    /// Whether it always has the same number of subtasks. Survivors of lost workers are fewer.
    pub(crate) fn keeps_width(&self) -> bool {
        let rescales = self.blows.iter().any(|(_, blow)| matches!(blow, Blow::Rescale { .. }));
        self.spec.replicas == 1 && !rescales
    }

    /// Whether what an earlier life of the job left is nobody's.
    pub(crate) fn is_made_again(&self) -> bool {
        self.blows
            .iter()
            .any(|(_, blow)| matches!(blow, Blow::Deleted | Blow::DeletedBeneath | Blow::Fresh))
    }

    /// What it is made of, to be counted over the seeds.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        let mut kinds = self.query.kinds();
        kinds.push(match self.spec.order {
            Order::Relaxed => "relaxed order",
            Order::Strict => "strict order",
        });
        kinds.push(match self.spec.state_memory_bytes {
            0 => "state in files",
            _ => "state in memory",
        });
        kinds
    }

    /// A quiet job that reads one row a second and would like a checkpoint every 20 ms.
    pub(crate) fn nearly_idle() -> Self {
        let mut scenario = Self::quiet();
        scenario.query.events = 10;
        scenario.spec.checkpoint.interval_ms = 20;
        if let Verb::Source(source) = &mut scenario.spec.pipeline[0].verb {
            source.rate = Some(1);
            if let SourceKind::Keys { count, .. } = &mut source.kind {
                *count = Some(scenario.query.events);
            }
        }
        scenario
    }
}

/// Around a pipeline: how wide it runs, when checkpoints are taken.
fn job(draw: &mut Draw, query: &Query, width: (u32, u32)) -> JobSpec {
    let rate = (draw.below(4) > 0).then(|| 1_000 + draw.below(4_000));
    let mut spec = JobSpec {
        name: "sim".to_owned(),
        replicas: width.0,
        slots: width.1,
        key_groups: 16,
        order: if draw.below(2) == 0 { Order::Relaxed } else { Order::Strict },
        // Without any, what was flushed is read from its files.
        state_memory_bytes: if draw.below(3) == 0 { 64 << 20 } else { 0 },
        checkpoint: CheckpointPolicy {
            interval_ms: 100 + draw.below(400),
            timeout_ms: if draw.below(3) == 0 { 300 } else { 30_000 },
            min_pause_ms: 0,
            retained: u32::try_from(1 + draw.below(3)).expect("small"),
            tolerable_failures: None,
        },
        compaction: CompactionPolicy::default(),
        failover: FailoverPolicy {
            timeout_ms: 2_000 + 3_000 * draw.below(2),
            restarts: 1_000,
            within_ms: 600_000,
            min_survivors_percent: [1, 50, 100][usize::try_from(draw.below(3)).expect("small")],
        },
        rescale: RescalePolicy::default(),
        pipeline: query.pipeline(rate),
    };
    spec.rescale.cooldown_ms = spec.checkpoint.interval_ms % 4 * 100;
    spec
}

/// Half of the jobs have compactors; sometimes none is there. A seed's other choices do not depend
/// on these.
fn compaction(seed: u64, blows: &mut Vec<(Duration, Blow)>) -> CompactionPolicy {
    let mut draw = Draw(seed ^ 0x0c0_4ac7);
    let small = |number| u32::try_from(number).expect("small");
    let min_replicas = small(draw.below(3));
    let max_replicas = min_replicas + small(draw.below(3));
    if draw.below(2) == 0 {
        return CompactionPolicy::default();
    }
    for _ in 0..draw.below(4) {
        let cut_off = (draw.below(3) == 0).then(|| Duration::from_secs(1) + draw.millis(12_000));
        let blow = Blow::Compactor { which: draw.next(), cut_off };
        let place = usize::try_from(draw.below(blows.len() as u64 + 1)).expect("small");
        blows.insert(place, (draw.millis(800), blow));
    }
    CompactionPolicy { remote: true, min_replicas, max_replicas }
}

fn blow(draw: &mut Draw) -> (Duration, Blow) {
    let after = draw.millis(2_500);
    let lasts = |draw: &mut Draw| Duration::from_secs(1) + draw.millis(12_000);
    let blow = match draw.below(10) {
        0 | 1 => Blow::Worker(draw.next()),
        2 | 3 => Blow::Coordinator { orphans_live: draw.millis(10_000) },
        4 => Blow::Second,
        5..=7 => Blow::Leave(draw.next()),
        8 => Blow::CutOff { worker: draw.next(), lasts: lasts(draw) },
        _ => Blow::Apart { workers: draw.next(), breaks: draw.below(2) == 0, lasts: lasts(draw) },
    };
    (after, blow)
}

/// A rescale, and what comes in its way.
fn rescale(draw: &mut Draw) -> Vec<(Duration, Blow)> {
    let wanted = |draw: &mut Draw| {
        let small = |number| u32::try_from(number).expect("small");
        let (replicas, slots) = (small(1 + draw.below(4)), small(1 + draw.below(2)));
        Blow::Rescale { replicas, slots }
    };
    let mut blows = vec![(draw.millis(1_500), wanted(draw))];
    let next = match draw.below(9) {
        0 => wanted(draw),
        1 => Blow::Back,
        2 => Blow::Coordinator { orphans_live: draw.millis(10_000) },
        3 => Blow::Worker(draw.next()),
        4 => Blow::NewWorker,
        5 => Blow::Leave(draw.next()),
        _ => return blows,
    };
    let within = [20, 80, 300, 600][usize::try_from(draw.below(4)).expect("small")];
    blows.push((draw.millis(within), next));
    blows
}
