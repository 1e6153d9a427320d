//! A job and its faults from a seed, and what must come out, computed in the obvious way.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use weir_engine::network::sim::Crash;
use weir_engine::pipeline::spec::{
    AggregateSpec, CheckpointPolicy, EventTimeSpec, FailoverPolicy, JobSpec, Order, SinkFormat,
    SinkSpec, SourceKind, SourceSpec, StepSpec, StoreSpec, TumbleSpec, Verb, WindowSpec,
};
use weir_runtime::sim::store::Planned;

/// Event time of event 0 of `generate.keys`, as its documentation says.
const FIRST_TIME_MS: i64 = 1_436_918_400_000;

/// splitmix64 (Steele et al. 2014).
pub(crate) struct Draw(u64);

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
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) spec: JobSpec,
    pub(crate) events: u64,
    distinct: u64,
    with_union: bool,
    /// Rows go into a second sink too, before they are aggregated.
    with_raw: bool,
    size_ms: i64,
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
    /// One fault at one object call.
    pub(crate) planned: Option<Planned>,
    /// A process is killed at this send (from 1) of the whole network.
    pub(crate) crash_at: Option<(u64, Crash)>,
    /// Logs and object calls are printed.
    pub(crate) is_shown: bool,
}

impl Scenario {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut draw = Draw(seed ^ 0x5eed);
        let events = 1_000 + draw.below(5_000);
        let distinct = 1 + draw.below(40);
        let size_ms = [100, 250, 1_000][usize::try_from(draw.below(3)).expect("small")];
        let with_union = draw.below(3) == 0;
        let with_raw = draw.below(2) == 0;
        let mut spec = spec(&mut draw, events, distinct, size_ms, with_union);
        spec.pipeline.extend(with_raw.then(|| files("raw", "kept")));
        let blows = (0..draw.below(4)).map(|_| blow(&mut draw)).collect();
        let slow_ms = 1 + draw.below(20);
        Self {
            seed,
            spec,
            events,
            distinct,
            with_union,
            with_raw,
            size_ms,
            keeps_workers: draw.below(2) == 0,
            kills_at_end: draw.below(3) == 0,
            blows,
            faulty_store: draw.below(2) == 0,
            faulty_network: draw.below(2) == 0,
            slow_ms,
            list_ms: slow_ms * [1, 50][usize::try_from(draw.below(2)).expect("small")],
            planned: None,
            crash_at: None,
            is_shown: false,
        }
    }

    /// A short job on two workers to which nothing happens by chance.
    pub(crate) fn quiet() -> Self {
        let (events, distinct, size_ms) = (1_600, 10, 100);
        let mut spec = spec(&mut Draw(1), events, distinct, size_ms, false);
        spec.replicas = 2;
        spec.slots = 1;
        spec.checkpoint.interval_ms = 100;
        spec.pipeline.push(files("raw", "kept"));
        if let Verb::Source(source) = &mut spec.pipeline[0].verb {
            source.rate = Some(2_000);
        }
        Self {
            seed: 1,
            spec,
            events,
            distinct,
            with_union: false,
            with_raw: true,
            size_ms,
            keeps_workers: false,
            kills_at_end: false,
            blows: Vec::new(),
            faulty_store: false,
            faulty_network: false,
            slow_ms: 5,
            list_ms: 5,
            planned: None,
            crash_at: None,
            is_shown: false,
        }
    }

    /// A quiet job that reads one row a second and would like a checkpoint every 20 ms.
    pub(crate) fn nearly_idle() -> Self {
        let mut scenario = Self::quiet();
        scenario.events = 10;
        scenario.spec.checkpoint.interval_ms = 20;
        if let Verb::Source(source) = &mut scenario.spec.pipeline[0].verb {
            source.rate = Some(1);
            if let SourceKind::Keys { count, .. } = &mut source.kind {
                *count = Some(scenario.events);
            }
        }
        scenario
    }

    /// How often an event comes through the filters: through the union, once for each that keeps it.
    fn kept(&self, event: i64) -> usize {
        if self.with_union {
            usize::from(event % 2 == 0) + usize::from(event % 3 == 0)
        } else {
            usize::from(event % 7 != 3)
        }
    }

    /// How often each event must be committed to the sink before the aggregate.
    pub(crate) fn expected_raw(&self) -> BTreeMap<i64, usize> {
        let events = 0..i64::try_from(self.events).expect("small");
        let kept = events.map(|event| (event, self.kept(event)));
        kept.filter(|(_, times)| self.with_raw && *times > 0).collect()
    }

    /// The rows that must be committed, each once.
    pub(crate) fn expected(&self) -> Vec<Value> {
        let mut groups: BTreeMap<(String, i64), Vec<i64>> = BTreeMap::new();
        let mut random = Draw(0);
        for event in 0..self.events {
            let number = (u128::from(random.next()) * u128::from(self.distinct)) >> 64;
            let event = i64::try_from(event).expect("small");
            let time = FIRST_TIME_MS + event;
            let start = time.div_euclid(self.size_ms) * self.size_ms;
            let group = (format!("k{number:08}"), start);
            for _ in 0..self.kept(event) {
                groups.entry(group.clone()).or_default().push(event);
            }
        }
        let row = |((key, start), events): ((String, i64), Vec<i64>)| {
            let sum: i64 = events.iter().sum();
            json!({
                "key": key,
                "window_start": start,
                "window_end": start + self.size_ms,
                "n": events.len(),
                "total": sum,
                "least": events.iter().min(),
                "most": events.iter().max(),
                "mean": sum as f64 / events.len() as f64,
            })
        };
        groups.into_iter().map(row).collect()
    }
}

fn step(id: &str, from: &[&str], verb: Verb) -> StepSpec {
    let from = from.iter().map(|step| (*step).to_owned()).collect();
    StepSpec { id: id.to_owned(), from, verb }
}

/// A sink into the folder of its own name.
fn files(id: &str, from: &str) -> StepSpec {
    let files = SinkSpec::Files {
        uri: id.to_owned(),
        format: SinkFormat::Ndjson,
        store: StoreSpec::default(),
    };
    step(id, &[from], Verb::Sink(files))
}

fn spec(draw: &mut Draw, events: u64, distinct: u64, size_ms: i64, with_union: bool) -> JobSpec {
    let source = SourceSpec {
        kind: SourceKind::Keys { count: Some(events), distinct, value_bytes: 4, skew_milli: 0 },
        rate: (draw.below(4) > 0).then(|| 1_000 + draw.below(4_000)),
        event_time: Some(EventTimeSpec { column: None, delay_ms: 0 }),
    };
    let mut pipeline = vec![step("events", &[], Verb::Source(source))];
    if with_union {
        pipeline.push(step("even", &["events"], Verb::Filter("seq % 2 = 0".to_owned())));
        let swapped = ["seq", "key", "time"].map(str::to_owned).to_vec();
        let third = step("third", &["events"], Verb::Filter("seq % 3 = 0".to_owned()));
        pipeline.push(third);
        let straight = ["key", "seq", "time"].map(str::to_owned).to_vec();
        pipeline.push(step("left", &["even"], Verb::Select(straight)));
        pipeline.push(step("right", &["third"], Verb::Select(swapped)));
        pipeline.push(step("kept", &["left", "right"], Verb::Union));
    } else {
        pipeline.push(step("kept", &["events"], Verb::Filter("seq % 7 <> 3".to_owned())));
    }
    let values = [
        "count(*) as n",
        "sum(seq) as total",
        "min(seq) as least",
        "max(seq) as most",
        "avg(seq) as mean",
    ];
    let window = Some(WindowSpec::Tumble(TumbleSpec { size_ms, offset_ms: 0 }));
    let aggregate = AggregateSpec {
        key: vec!["key".to_owned()],
        window,
        values: values.map(str::to_owned).to_vec(),
        lateness_ms: 0,
        emit: None,
        ttl_ms: None,
    };
    pipeline.push(step("counts", &["kept"], Verb::Aggregate(aggregate)));
    pipeline.push(files("out", "counts"));
    JobSpec {
        name: "sim".to_owned(),
        replicas: u32::try_from(1 + draw.below(3)).expect("small"),
        slots: u32::try_from(1 + draw.below(2)).expect("small"),
        key_groups: 16,
        order: Order::default(),
        state_memory_bytes: 64 << 20,
        checkpoint: CheckpointPolicy {
            interval_ms: 100 + draw.below(400),
            timeout_ms: 30_000,
            min_pause_ms: 0,
            retained: u32::try_from(1 + draw.below(3)).expect("small"),
            tolerable_failures: None,
        },
        failover: FailoverPolicy {
            timeout_ms: 2_000 + 3_000 * draw.below(2),
            restarts: 1_000,
            within_ms: 600_000,
        },
        pipeline,
    }
}

fn blow(draw: &mut Draw) -> (Duration, Blow) {
    let after = draw.millis(2_500);
    let blow = match draw.below(6) {
        0 | 1 => Blow::Worker(draw.next()),
        2 | 3 => Blow::Coordinator { orphans_live: draw.millis(10_000) },
        4 => Blow::Second,
        _ => Blow::CutOff {
            worker: draw.next(),
            lasts: Duration::from_secs(1) + draw.millis(12_000),
        },
    };
    (after, blow)
}
