//! A job and its faults from a seed, and what must come out, computed in the obvious way.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use weir_engine::pipeline::spec::{
    AggregateSpec, CheckpointPolicy, EventTimeSpec, FailoverPolicy, JobSpec, SinkSpec, SourceKind,
    SourceSpec, StepSpec, StoreSpec, TumbleSpec, Verb,
};

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
    /// A second coordinator starts while the first still lives.
    Second,
    /// A worker is cut off for a while, and wakes up again.
    CutOff { worker: u64, lasts: Duration },
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) spec: JobSpec,
    events: u64,
    distinct: u64,
    with_union: bool,
    size_ms: i64,
    pub(crate) blows: Vec<(Duration, Blow)>,
    /// Errors, lost and late answers, crashes at object calls.
    pub(crate) faulty_store: bool,
    /// Delays, breaks, duplicates; crashes at sends.
    pub(crate) faulty_network: bool,
    pub(crate) slow_ms: u64,
}

impl Scenario {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut draw = Draw(seed ^ 0x5eed);
        let events = 1_000 + draw.below(5_000);
        let distinct = 1 + draw.below(40);
        let size_ms = [100, 250, 1_000][usize::try_from(draw.below(3)).expect("small")];
        let with_union = draw.below(3) == 0;
        let spec = spec(&mut draw, events, distinct, size_ms, with_union);
        let blows = (0..draw.below(4)).map(|_| blow(&mut draw)).collect();
        Self {
            seed,
            spec,
            events,
            distinct,
            with_union,
            size_ms,
            blows,
            faulty_store: draw.below(2) == 0,
            faulty_network: draw.below(2) == 0,
            slow_ms: 1 + draw.below(20),
        }
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
            // Through the union comes what either filter keeps, once for each.
            let kept = if self.with_union {
                usize::from(event % 2 == 0) + usize::from(event % 3 == 0)
            } else {
                usize::from(event % 7 != 3)
            };
            let group = (format!("k{number:08}"), start);
            for _ in 0..kept {
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
    let window = TumbleSpec { size_ms, offset_ms: 0 };
    let aggregate = AggregateSpec {
        key: vec!["key".to_owned()],
        window,
        values: values.map(str::to_owned).to_vec(),
        lateness_ms: 0,
    };
    pipeline.push(step("counts", &["kept"], Verb::Aggregate(aggregate)));
    let files = SinkSpec::Files { uri: "out".to_owned(), store: StoreSpec::default() };
    pipeline.push(step("out", &["counts"], Verb::Sink(files)));
    JobSpec {
        name: "sim".to_owned(),
        replicas: u32::try_from(1 + draw.below(3)).expect("small"),
        slots: u32::try_from(1 + draw.below(2)).expect("small"),
        key_groups: 16,
        state_memory_bytes: 64 << 20,
        checkpoint: CheckpointPolicy {
            interval_ms: 100 + draw.below(400),
            timeout_ms: 30_000,
            min_pause_ms: 0,
            retained: u32::try_from(1 + draw.below(3)).expect("small"),
            tolerable_failures: None,
        },
        failover: FailoverPolicy { timeout_ms: 5_000, restarts: 1_000, within_ms: 600_000 },
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
