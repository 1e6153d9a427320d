//! Windows of every kind and none, in both orders, over a restore at another width: the committed
//! rows, folded where they are a changelog, are what a plain loop over the rows gives.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_engine::pipeline::spec::{
    AggregateSpec, Emit, JobSpec, Order, SinkSpec, StepSpec, Verb, WindowSpec,
};
use weir_runtime::{clock, sim};

use super::data::{Event, windows_job};
use super::rig::{Driver, Rig, timestamp_ms};
use super::{events, slow_store};

const MINUTE: i64 = 60_000;
const HOP: WindowSpec =
    WindowSpec::Hop { size_ms: 5 * MINUTE, every_ms: 2 * MINUTE, offset_ms: MINUTE };
const GAP_MS: i64 = 4_000;
const SESSION: WindowSpec = WindowSpec::Session { gap_ms: GAP_MS };

/// (key, window's start and end) to (rows, sum); without a window start and end are 0.
type Results = BTreeMap<(String, i64, i64), (i64, i64)>;

fn changed(mut job: JobSpec, order: Order, change: &impl Fn(&mut AggregateSpec)) -> JobSpec {
    job.order = order;
    let aggregate = job.pipeline.iter_mut().find_map(|step| match &mut step.verb {
        Verb::Aggregate(aggregate) => Some(aggregate),
        _ => None,
    });
    change(aggregate.unwrap());
    job
}

/// What a reader of the rows has in the end. Nothing is taken back that is not there.
fn fold(rows: &[serde_json::Value]) -> Results {
    let mut results = Results::new();
    for row in rows {
        let border = |name: &str| row.get(name).map_or(0, |t| timestamp_ms(t.as_str().unwrap()));
        let key = row["key"].as_str().unwrap().to_owned();
        let place = (key, border("window_start"), border("window_end"));
        let value = (row["n"].as_i64().unwrap(), row["total"].as_i64().unwrap());
        match row.get("_op").map_or("+I", |op| op.as_str().unwrap()) {
            "+I" | "+U" => assert_eq!(results.insert(place, value), None, "there already: {row}"),
            _ => assert_eq!(results.remove(&place), Some(value), "not there: {row}"),
        }
    }
    results
}

fn add(results: &mut Results, event: &Event, start: i64, end: i64) {
    let (rows, sum) = results.entry((format!("k{}", event.key), start, end)).or_default();
    *rows += 1;
    *sum += event.value;
}

fn expected(events: &[Event], window: Option<WindowSpec>) -> Results {
    let mut results = Results::new();
    match window {
        None => events.iter().for_each(|event| add(&mut results, event, 0, 0)),
        Some(WindowSpec::Tumble(tumble)) => {
            for event in events {
                let start = event.time_ms.div_euclid(tumble.size_ms) * tumble.size_ms;
                add(&mut results, event, start, start + tumble.size_ms);
            }
        }
        Some(WindowSpec::Hop { size_ms, every_ms, offset_ms }) => {
            for event in events {
                let behind = (event.time_ms - offset_ms).rem_euclid(every_ms);
                let mut start = event.time_ms - behind;
                while event.time_ms < start + size_ms {
                    add(&mut results, event, start, start + size_ms);
                    start -= every_ms;
                }
            }
        }
        Some(WindowSpec::Session { gap_ms }) => {
            let mut sorted = events.to_vec();
            sorted.sort_by_key(|event| (event.key, event.time_ms));
            let same = |one: &Event, next: &Event| {
                one.key == next.key && next.time_ms - one.time_ms <= gap_ms
            };
            for session in sorted.chunk_by(same) {
                let (first, last) = (session[0].time_ms, session[session.len() - 1].time_ms);
                for event in session {
                    add(&mut results, event, first, last + gap_ms);
                }
            }
        }
    }
    results
}

/// Runs over a checkpoint, a loss of all workers and a restore at another width.
fn check(seed: u64, order: Order, change: impl Fn(&mut AggregateSpec) + Send + Sync + 'static) {
    sim::run(seed, async move {
        let events = events(2_000, 40);
        let store = slow_store(seed);
        let rig = Rig::new(store.clone(), &events, 2).await;
        let job = |width, slots, rate| changed(windows_job(width, slots, rate), order, &change);
        let mut window = AggregateSpec {
            key: vec![],
            window: None,
            values: vec![],
            lateness_ms: 0,
            emit: None,
            ttl_ms: None,
        };
        if let Verb::Aggregate(aggregate) = &job(2, 2, None).pipeline[2].verb {
            window.clone_from(aggregate);
        }
        let mut driver = Driver::deploy(&rig, job(2, 2, Some(2_000)), None).await;
        clock::sleep(Duration::from_millis(400)).await;
        let first = driver.checkpoint().await;
        driver.commit(&first).await;
        clock::sleep(Duration::from_millis(150)).await;
        rig.kill();
        let rig = Rig::with(store, 3).await;
        let mut driver = Driver::deploy(&rig, job(3, 1, None), Some(first)).await;
        let last = driver.finish().await;
        driver.commit(&last).await;
        assert_eq!(fold(&rig.rows()), expected(&events, window.window));
    });
}

#[test]
fn hopping_windows() {
    check(31, Order::Relaxed, |spec| spec.window = Some(HOP));
    check(32, Order::Strict, |spec| spec.window = Some(HOP));
}

#[test]
fn sessions() {
    check(33, Order::Relaxed, |spec| spec.window = Some(SESSION));
    check(34, Order::Strict, |spec| spec.window = Some(SESSION));
}

#[test]
fn windows_that_write_every_change() {
    check(35, Order::Relaxed, |spec| spec.emit = Some(Emit::OnUpdate));
    check(36, Order::Strict, |spec| {
        (spec.window, spec.emit) = (Some(SESSION), Some(Emit::OnUpdate));
    });
    check(37, Order::Relaxed, |spec| {
        (spec.window, spec.emit, spec.lateness_ms) = (Some(HOP), Some(Emit::OnUpdate), 90_000);
    });
}

#[test]
fn running_totals() {
    check(38, Order::Relaxed, |spec| spec.window = None);
    check(39, Order::Strict, |spec| spec.window = None);
}

#[test]
fn a_changelog_through_filter_select_and_union() {
    sim::run(40, async {
        let events = events(1_000, 20);
        let rig = Rig::new(slow_store(40), &events, 2).await;
        let mut job = changed(windows_job(2, 2, None), Order::Relaxed, &|spec| spec.window = None);
        let step = |id: &str, from: &[&str], verb: Verb| StepSpec {
            id: id.to_owned(),
            from: from.iter().map(|step| (*step).to_owned()).collect(),
            verb,
        };
        let out = job.pipeline.pop().unwrap();
        let Verb::Sink(sink @ SinkSpec::Files { .. }) = out.verb else { panic!("a files sink") };
        let small = ["total", "n", "'small ' || key as key"].map(str::to_owned).to_vec();
        job.pipeline.extend([
            step("odd", &["windows"], Verb::Filter("n % 2 = 1".to_owned())),
            step("few", &["windows"], Verb::Filter("total < 2000".to_owned())),
            step("small", &["few"], Verb::Select(small)),
            step("both", &["odd", "small"], Verb::Union),
            step("out", &["both"], Verb::Sink(sink)),
        ]);
        let mut driver = Driver::deploy(&rig, job, None).await;
        let last = driver.finish().await;
        driver.commit(&last).await;
        let mut wanted = Results::new();
        for ((key, ..), (rows, sum)) in expected(&events, None) {
            if rows % 2 == 1 {
                wanted.insert((key.clone(), 0, 0), (rows, sum));
            }
            if sum < 2_000 {
                wanted.insert((format!("small {key}"), 0, 0), (rows, sum));
            }
        }
        let rows = rig.rows();
        assert!(rows.iter().any(|row| row["_op"] == "-D"), "a half of an update was left alone");
        assert_eq!(fold(&rows), wanted);
    });
}

/// Totals by key, and totals of those by whether a key has an odd number of rows: a key goes from
/// one group to the other with each of its rows, and is taken back from where it was.
#[test]
fn totals_of_totals() {
    sim::run(41, async {
        let events = events(1_500, 30);
        let store = slow_store(41);
        let rig = Rig::new(store.clone(), &events, 2).await;
        let job = |width, slots, rate| {
            let job = windows_job(width, slots, rate);
            let mut job = changed(job, Order::Relaxed, &|spec| spec.window = None);
            let step = |id: &str, from: &str, verb: Verb| StepSpec {
                id: id.to_owned(),
                from: vec![from.to_owned()],
                verb,
            };
            let mut out = job.pipeline.pop().unwrap();
            let Verb::Aggregate(by_key) = job.pipeline[2].verb.clone() else { panic!("totals") };
            let parity = "case when n % 2 = 1 then 'odd' else 'even' end as key";
            let select = [parity, "total"].map(str::to_owned).to_vec();
            let values = ["count(*) as n", "sum(total) as total", "max(total) as most"];
            let values = values.map(str::to_owned).to_vec();
            out.from = vec!["parity".to_owned()];
            job.pipeline.extend([
                step("keys", "windows", Verb::Select(select)),
                step("parity", "keys", Verb::Aggregate(AggregateSpec { values, ..by_key })),
                out,
            ]);
            job
        };
        let mut driver = Driver::deploy(&rig, job(2, 2, Some(2_000)), None).await;
        clock::sleep(Duration::from_millis(400)).await;
        let first = driver.checkpoint().await;
        driver.commit(&first).await;
        clock::sleep(Duration::from_millis(150)).await;
        rig.kill();
        let rig = Rig::with(store, 3).await;
        let mut driver = Driver::deploy(&rig, job(3, 1, None), Some(first)).await;
        let last = driver.finish().await;
        driver.commit(&last).await;
        let mut wanted = Results::new();
        for (_, (rows, sum)) in expected(&events, None) {
            let parity = if rows % 2 == 1 { "odd" } else { "even" };
            let (keys, total) = wanted.entry((parity.to_owned(), 0, 0)).or_default();
            *keys += 1;
            *total += sum;
        }
        assert_eq!(fold(&rig.rows()), wanted);
    });
}

/// Rows without event time: a group that was not written for its ttl by the clock begins anew, and
/// its old result is not taken back.
#[test]
fn without_event_time_a_ttl_goes_by_the_clock() {
    sim::run(42, async {
        let keys =
            [[0; 20], [1; 20], [1; 20], [1; 20], [1; 20], [1; 20], [1; 20], [0; 20]].concat();
        let event = |(time_ms, key)| Event { key, time_ms, value: 1 };
        let events: Vec<Event> = (0..).zip(keys).map(event).collect();
        let rig = Rig::new(slow_store(42), &events, 1).await;
        let mut job = changed(windows_job(1, 1, Some(20)), Order::Relaxed, &|spec| {
            (spec.window, spec.ttl_ms) = (None, Some(3_000));
        });
        if let Verb::Source(source) = &mut job.pipeline[0].verb {
            source.event_time = None;
        }
        let mut driver = Driver::deploy(&rig, job, None).await;
        let last = driver.finish().await;
        driver.commit(&last).await;
        let rows = rig.rows();
        let inserts =
            |key: &str| rows.iter().filter(|row| row["key"] == key && row["_op"] == "+I").count();
        assert_eq!((inserts("k0"), inserts("k1")), (2, 1));
        let last = |key: &str| {
            let row = rows.iter().rfind(|row| row["key"] == key).unwrap();
            row["n"].as_i64().unwrap()
        };
        assert_eq!((last("k0"), last("k1")), (20, 120));
    });
}
