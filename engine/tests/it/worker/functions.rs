//! Functions whose results depend on the rows' times or on all of their values, from the source to
//! the file, through a checkpoint and another width.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use weir_engine::pipeline::spec::{JobSpec, Verb};
use weir_runtime::{clock, sim};

use super::data::{Event, windows_job};
use super::rig::{Driver, Rig};
use super::{events, slow_store};

fn job(replicas: usize, slots: u32, rate: Option<u64>) -> JobSpec {
    let mut job = windows_job(replicas, slots, rate);
    let Verb::Aggregate(aggregate) = &mut job.pipeline[2].verb else { unreachable!() };
    let values = [
        "first(value) as first",
        "last(value) as last",
        "array_agg(value) filter (where value < 30) as some",
        "count(distinct value % 7) as sevens",
        "bool_or(value > 90) as high",
        "var_pop(value) as variance",
    ];
    aggregate.values = values.map(str::to_owned).to_vec();
    job
}

fn expected(events: &[Event]) -> BTreeMap<(String, i64), Value> {
    let mut windows: BTreeMap<(String, i64), Vec<(i64, i64)>> = BTreeMap::new();
    for event in events {
        let start = event.time_ms.div_euclid(60_000) * 60_000;
        let rows = windows.entry((format!("k{}", event.key), start)).or_default();
        rows.push((event.time_ms, event.value));
    }
    let result = |rows: &mut Vec<(i64, i64)>| {
        rows.sort_unstable();
        let values: Vec<i64> = rows.iter().map(|(_, value)| *value).collect();
        let some: Vec<i64> = values.iter().copied().filter(|value| *value < 30).collect();
        let sevens: BTreeSet<i64> = values.iter().map(|value| value % 7).collect();
        let count = values.len() as i64;
        let sum: i64 = values.iter().sum();
        let squares: i64 = values.iter().map(|value| value * value).sum();
        let variance = (count * squares - sum * sum) as f64 / (count * count) as f64;
        let last_time = rows.last().unwrap().0;
        json!({
            "first": values[0],
            "last": rows.iter().filter(|row| row.0 == last_time).map(|row| row.1).max(),
            "some": if some.is_empty() { Value::Null } else { json!(some) },
            "sevens": sevens.len(),
            "high": values.iter().any(|value| *value > 90),
            "variance": (variance * 1e6).round(),
        })
    };
    windows.into_iter().map(|(key, mut rows)| (key, result(&mut rows))).collect()
}

fn found(rig: &Rig) -> BTreeMap<(String, i64), Value> {
    rig.windows(|row| {
        let mut row = row.as_object().unwrap().clone();
        let variance = row["variance"].as_f64().unwrap();
        row.insert("variance".to_owned(), json!((variance * 1e6).round()));
        row.retain(|name, _| name != "key" && !name.starts_with("window"));
        Value::Object(row)
    })
}

#[test]
fn results_by_time_and_value_survive_a_restore_at_another_width() {
    sim::run(23, async {
        let events = events(4_000, 20);
        let store = slow_store(23);
        let rig = Rig::new(store.clone(), &events, 2).await;
        let mut driver = Driver::deploy(&rig, job(2, 2, Some(2_000)), None).await;
        clock::sleep(Duration::from_millis(700)).await;
        let checkpoint = driver.checkpoint().await;
        driver.commit(&checkpoint).await;
        rig.kill();
        let rig = Rig::with(store, 3).await;
        let mut driver = Driver::deploy(&rig, job(3, 1, None), Some(checkpoint)).await;
        let last = driver.finish().await;
        driver.commit(&last).await;
        assert_eq!(found(&rig), expected(&events));
    });
}
