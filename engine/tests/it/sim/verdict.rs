//! What must be true at the end of a simulated job.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use object_store::path::Path;
use serde_json::Value;
use weir_runtime::sim::store::SimStore;
use weir_state::gc::{SinkFolders, sweep};
use weir_state::journal::Journal;
use weir_state::names::SinkFile;
use weir_state::objects::Place;

use super::draw::Scenario;
use super::life::{Lived, STATE, root};

pub(crate) async fn check(scenario: &Scenario, lived: &Lived) -> Result<(), String> {
    let mut windows = committed(&lived.store, "out")?;
    for (_, row) in &mut windows {
        for column in ["window_start", "window_end"] {
            row[column] = Value::from(millis(&row[column])?);
        }
    }
    check_order(&windows)?;
    let rows: Vec<Value> = windows.into_iter().map(|(_, row)| row).collect();
    check_output(&scenario.expected(), &rows)?;
    check_raw(&scenario.expected_raw(), &committed(&lived.store, "raw")?)?;
    check_folders(&lived.store).await
}

/// All rows of a sink's committed files in the order of their checkpoints, with their files.
fn committed(store: &SimStore, folder: &str) -> Result<Vec<(SinkFile, Value)>, String> {
    let names = store.names();
    let names = names.iter().filter_map(|(name, _)| name.strip_prefix(&format!("{folder}/")));
    let files = names.filter_map(|name| Some((SinkFile::parse(name)?, format!("{folder}/{name}"))));
    let mut files: Vec<_> = files.collect();
    files.sort_by_key(|(file, name)| (file.checkpoint, name.clone()));
    let mut rows = Vec::new();
    for (file, name) in files {
        let bytes = store.peek(&Path::from(name.as_str())).ok_or("a file vanished")?;
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let row = serde_json::from_slice(line).map_err(|error| format!("{name}: {error}"))?;
            rows.push((file.clone(), row));
        }
    }
    Ok(rows)
}

/// The windows of a key were written in their order.
fn check_order(rows: &[(SinkFile, Value)]) -> Result<(), String> {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for (file, row) in rows {
        let key = row["key"].as_str().ok_or("a row without a key")?;
        let start = row["window_start"].as_i64().ok_or("a row without a window")?;
        if let Some(before) = last.insert(key, start).filter(|before| *before >= start) {
            return Err(format!("{key}: window {start} in {file} comes behind {before}"));
        }
    }
    Ok(())
}

/// Every event that a filter keeps came as often as it must, and those that one subtask read on one
/// path in the order in which it read them.
fn check_raw(expected: &BTreeMap<i64, usize>, rows: &[(SinkFile, Value)]) -> Result<(), String> {
    let mut came: BTreeMap<i64, usize> = BTreeMap::new();
    let mut last: BTreeMap<(u32, u32), i64> = BTreeMap::new();
    for (file, row) in rows {
        let event = row["seq"].as_i64().ok_or("a row without a number")?;
        *came.entry(event).or_default() += 1;
        let path = (file.subtask, file.part);
        if let Some(before) = last.insert(path, event).filter(|before| *before >= event) {
            return Err(format!("event {event} in {file} comes behind {before}"));
        }
    }
    let all: BTreeSet<i64> = expected.keys().chain(came.keys()).copied().collect();
    let times = |of: &BTreeMap<i64, usize>, event| of.get(event).copied().unwrap_or(0);
    match all.iter().find(|event| times(expected, event) != times(&came, event)) {
        Some(event) => {
            let (must, did) = (times(expected, event), times(&came, event));
            Err(format!("event {event} came {did} times before the aggregate, not {must}"))
        }
        None => Ok(()),
    }
}

fn millis(time: &Value) -> Result<i64, String> {
    let text = time.as_str().ok_or_else(|| format!("{time} is not a time"))?;
    let parsed = arrow::compute::kernels::cast_utils::string_to_timestamp_nanos(text);
    Ok(parsed.map_err(|error| error.to_string())? / 1_000_000)
}

/// As bags: every row as often as it must come.
fn check_output(expected: &[Value], actual: &[Value]) -> Result<(), String> {
    let count = |rows: &[Value]| {
        let mut bag: BTreeMap<String, i64> = BTreeMap::new();
        for row in rows {
            let mut row = row.clone();
            // Reading a float back may be off in the last place.
            row["mean"] = Value::from(format!("{:.6}", row["mean"].as_f64().unwrap_or(f64::NAN)));
            *bag.entry(row.to_string()).or_default() += 1;
        }
        bag
    };
    let (expected, actual) = (count(expected), count(actual));
    for (row, times) in &expected {
        let came = actual.get(row).copied().unwrap_or(0);
        if came != *times {
            let wanted: Value = serde_json::from_str(row).map_err(|error| error.to_string())?;
            let alike = |row: &&String| {
                let row: Value = serde_json::from_str(row).unwrap_or_default();
                row["key"] == wanted["key"] && row["window_start"] == wanted["window_start"]
            };
            let alike: Vec<_> = actual.keys().filter(alike).collect();
            return Err(format!("{row} came {came} times, not {times}; there is {alike:?}"));
        }
    }
    match actual.keys().find(|row| !expected.contains_key(*row)) {
        Some(row) => Err(format!("{row} is wrong")),
        None => Ok(()),
    }
}

/// Once no generation lives and a sweep was made, what lies there is what the journal names.
async fn check_folders(store: &SimStore) -> Result<(), String> {
    let journal = Journal::open(&root(store)).await.map_err(|error| error.to_string())?;
    let journal = journal.ok_or("there is no journal")?;
    if journal.state().finished.is_none() {
        return Err("the journal does not say that the job is finished".to_owned());
    }
    let place = |folder: &str| {
        let uri = format!("sim://{folder}");
        (folder.to_owned(), Place::new(Arc::new(store.clone()), Path::from(folder), uri))
    };
    let sinks = SinkFolders::from(["out", "raw"].map(place));
    sweep(&journal, &sinks).await.map_err(|error| error.to_string())?;
    let named: BTreeSet<String> =
        journal.state().named_objects().into_iter().map(str::to_owned).collect();
    let folder = format!("{STATE}/{}/", journal.incarnation());
    let mut found = BTreeSet::new();
    for (name, _) in store.names() {
        if let Some(object) = name.strip_prefix(&format!("{folder}objects/")) {
            found.insert(object.to_owned());
        } else if name.starts_with("out/_weir/") || name.starts_with("raw/_weir/") {
            return Err(format!("{name} was left"));
        } else if name.starts_with(STATE)
            && !name.starts_with(&folder)
            && !name.starts_with("state/claims/")
        {
            return Err(format!("{name} belongs to nobody"));
        }
    }
    if let Some(missing) = named.difference(&found).next() {
        return Err(format!("{missing} is named and missing"));
    }
    match found.difference(&named).next() {
        Some(left) => Err(format!("{left} is not named and was left")),
        None => Ok(()),
    }
}
