//! What must be true at the end of a simulated job.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use object_store::path::Path;
use serde_json::Value;
use weir_runtime::sim::store::SimStore;
use weir_state::gc::{SinkFolders, sweep};
use weir_state::journal::Journal;
use weir_state::names::{SinkFile, TableFile};
use weir_state::objects::Place;

use super::changes::fold;
use super::coordinator::root_at;
use super::draw::Scenario;
use super::job::Query;
use super::late;
use super::life::{Lived, Reached, STATE};

const SINKS: [&str; 3] = ["out", "raw", "table"];

pub(crate) async fn check(scenario: &Scenario, lived: &mut Lived) -> Result<(), String> {
    let query = &scenario.query;
    if query.with_files {
        check_files(query, &lived.store, &mut lived.reached)?;
    }
    if query.table.is_some() {
        check_output(&query.expected(), &snapshot(&lived.store)?)?;
    }
    check_raw(scenario, &committed(&lived.store, "raw")?)?;
    check_folders(&lived.store, scenario.is_made_again()).await
}

/// What the sinks of files have got, whoever wrote it.
pub(crate) fn check_written(
    scenario: &Scenario,
    store: &SimStore,
    reached: &mut Reached,
) -> Result<(), String> {
    check_files(&scenario.query, store, reached)?;
    if !scenario.query.with_raw {
        return Ok(());
    }
    check_raw(scenario, &committed(store, "raw")?)
}

/// What lies in the state folder of a finished job.
pub(crate) async fn check_state(store: &SimStore) -> Result<(), String> {
    check_folders(store, false).await
}

fn check_files(query: &Query, store: &SimStore, reached: &mut Reached) -> Result<(), String> {
    let written = committed(store, "out")?;
    let rows: Vec<Value> = if query.gives_changelog() {
        fold(query, &written, reached)?
    } else {
        // Behind a session that is closed late rows may make another one at the same place.
        if !query.has_late {
            check_order(&written)?;
        }
        written.into_iter().map(|(_, row)| row).collect()
    };
    if query.has_late {
        late::check(query, &rows, reached)
    } else {
        check_output(&query.expected(), &rows)
    }
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
        rows.extend(rows_of(store, &name)?.into_iter().map(|row| (file.clone(), row)));
    }
    Ok(rows)
}

/// The rows of an ndjson file, times in milliseconds.
fn rows_of(store: &SimStore, name: &str) -> Result<Vec<Value>, String> {
    let bytes = store.peek(&Path::from(name)).ok_or("a file vanished")?;
    let mut rows = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut row: Value =
            serde_json::from_slice(line).map_err(|error| format!("{name}: {error}"))?;
        for column in ["window_start", "window_end", "time"] {
            if let Some(time) = row.get_mut(column) {
                *time = Value::from(millis(time)?);
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

/// The rows of the one snapshot that lies in the table's folder.
fn snapshot(store: &SimStore) -> Result<Vec<Value>, String> {
    let mut rows = Vec::new();
    let mut last: Option<TableFile> = None;
    for (name, _) in store.names() {
        let Some(file) = name.strip_prefix("table/").and_then(TableFile::parse) else { continue };
        if let Some(last) = last.filter(|last| last.checkpoint != file.checkpoint) {
            return Err(format!("snapshots {last} and {file} lie there at once"));
        }
        rows.extend(rows_of(store, &name)?);
        last = Some(file);
    }
    last.map(|_| rows).ok_or_else(|| "the table has no snapshot".to_owned())
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
fn check_raw(scenario: &Scenario, rows: &[(SinkFile, Value)]) -> Result<(), String> {
    let expected = &scenario.query.expected_raw();
    let mut came: BTreeMap<i64, usize> = BTreeMap::new();
    let mut last: BTreeMap<(u64, u32, u32), i64> = BTreeMap::new();
    for (file, row) in rows {
        let event = row["seq"].as_i64().ok_or("a row without a number")?;
        *came.entry(event).or_default() += 1;
        // At another width a subtask reads other splits.
        let generation = if scenario.keeps_width() { 0 } else { file.generation.0 };
        let path = (generation, file.subtask, file.part);
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
pub(crate) fn check_output(expected: &[Value], actual: &[Value]) -> Result<(), String> {
    let count = |rows: &[Value]| {
        let mut bag: BTreeMap<String, i64> = BTreeMap::new();
        for row in rows {
            let mut row = row.clone();
            // Reading a float back may be off in the last place.
            if let Some(mean) = row.get_mut("mean") {
                *mean = Value::from(format!("{:.6}", mean.as_f64().unwrap_or(f64::NAN)));
            }
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
                let same = |column: &str| row.get(column) == wanted.get(column);
                same("key") && same("bucket") && same("window_start")
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
/// Of a job whose first life was deleted under its feet, `is_made_again`, only what is missing is
/// looked at: nobody knows of what its orphans wrote.
async fn check_folders(store: &SimStore, is_made_again: bool) -> Result<(), String> {
    let journal = Journal::open(&root_at(store, STATE)).await.map_err(|error| error.to_string())?;
    let journal = journal.ok_or("there is no journal")?;
    if journal.state().finished.is_none() {
        return Err("the journal does not say that the job is finished".to_owned());
    }
    let place = |folder: &str| {
        let uri = format!("sim://{folder}");
        (folder.to_owned(), Place::new(Arc::new(store.clone()), Path::from(folder), uri))
    };
    let sinks = SinkFolders::from(SINKS.map(place));
    sweep(&journal, &sinks).await.map_err(|error| error.to_string())?;
    let named: BTreeSet<String> =
        journal.state().named_objects().into_iter().map(str::to_owned).collect();
    let folder = format!("{STATE}/{}/", journal.incarnation());
    let is_staged =
        |name: &str| SINKS.iter().any(|sink| name.starts_with(&format!("{sink}/_weir/")));
    let mut found = BTreeSet::new();
    for (name, _) in store.names() {
        if let Some(object) = name.strip_prefix(&format!("{folder}objects/")) {
            found.insert(object.to_owned());
        } else if is_staged(&name) && !is_made_again {
            return Err(format!("{name} was left"));
        } else if !is_made_again
            && name.starts_with(STATE)
            && !name.starts_with(&folder)
            && !name.starts_with("state/claims/")
        {
            return Err(format!("{name} belongs to nobody"));
        }
    }
    if let Some(missing) = named.difference(&found).next() {
        return Err(format!("{missing} is named and missing"));
    }
    if is_made_again {
        return Ok(());
    }
    match found.difference(&named).next() {
        Some(left) => Err(format!("{left} is not named and was left")),
        None => Ok(()),
    }
}
