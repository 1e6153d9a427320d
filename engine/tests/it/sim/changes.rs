//! Folds a committed changelog as a reader would, and looks at each of its rows.

use std::collections::BTreeMap;

use serde_json::Value;
use weir_state::names::SinkFile;

use super::job::Query;
use super::life::Reached;

/// Rows that a reader has, and how often.
type Bag = BTreeMap<String, i64>;

/// The rows that are left, in no order.
///
/// Errors: a row that is taken back and not there, half of an update, two rows of one place after
/// a checkpoint.
pub(crate) fn fold(
    query: &Query,
    written: &[(SinkFile, Value)],
    reached: &mut Reached,
) -> Result<Vec<Value>, String> {
    // By path through the pipeline: only within one do rows of a key keep their order.
    let mut paths: BTreeMap<u32, Bag> = BTreeMap::new();
    for checkpoint in written.chunk_by(|(one, _), (next, _)| one.checkpoint == next.checkpoint) {
        for file in checkpoint.chunk_by(|(one, _), (next, _)| one == next) {
            pairs(file)?;
        }
        for (file, row) in checkpoint {
            let bag = paths.entry(file.part).or_default();
            let change = if query.has_ttl() { one_life } else { one_row };
            change(bag, row, reached).map_err(|what| format!("{file}: {row}: {what}"))?;
        }
        if !query.has_late {
            places(query, &paths).map_err(|what| format!("after {}: {what}", checkpoint[0].0))?;
        }
    }
    let mut left = Vec::new();
    for (row, times) in paths.values().flatten() {
        let row: Value = serde_json::from_str(row).map_err(|error| error.to_string())?;
        left.extend((0..*times).map(|_| row.clone()));
    }
    Ok(left)
}

fn kind(row: &Value) -> Result<&str, String> {
    row["_op"].as_str().ok_or_else(|| format!("{row} has no kind"))
}

fn without_kind(row: &Value) -> String {
    let mut row = row.clone();
    if let Some(columns) = row.as_object_mut() {
        columns.remove("_op");
    }
    row.to_string()
}

/// Each `-U` stands directly before its `+U`.
fn pairs(file: &[(SinkFile, Value)]) -> Result<(), String> {
    let mut open = false;
    for (name, row) in file {
        let kind = kind(row)?;
        if open != (kind == "+U") {
            return Err(format!("{name}: {row} is half of an update"));
        }
        open = kind == "-U";
    }
    if open { Err(format!("{} ends with half an update", file[0].0)) } else { Ok(()) }
}

fn one_row(bag: &mut Bag, row: &Value, reached: &mut Reached) -> Result<(), String> {
    let kind = kind(row)?;
    let times = bag.entry(without_kind(row)).or_default();
    *times += if matches!(kind, "+I" | "+U") { 1 } else { -1 };
    reached.count(if kind == "-U" { "result revised" } else { "result written" }, 1);
    reached.count("result taken back", u64::from(kind == "-D"));
    match *times {
        0 | 1 => {
            bag.retain(|_, times| *times > 0);
            Ok(())
        }
        other => Err(format!("is there {other} times")),
    }
}

/// Where groups have a ttl nothing is written at its end: a new life takes the old one's place.
fn one_life(bag: &mut Bag, row: &Value, reached: &mut Reached) -> Result<(), String> {
    if kind(row)? == "+I" {
        let is_same = |old: &String| {
            let old: Value = serde_json::from_str(old).unwrap_or_default();
            old["key"] == row["key"]
        };
        let old = bag.keys().find(|old| is_same(old)).cloned();
        reached.count("life begun anew", u64::from(old.is_some()));
        old.map(|old| bag.remove(&old));
    }
    one_row(bag, row, reached)
}

/// After a checkpoint each place has one row at most.
fn places(query: &Query, paths: &BTreeMap<u32, Bag>) -> Result<(), String> {
    let mut seen: BTreeMap<(String, String), &String> = BTreeMap::new();
    for (text, _) in paths.values().flatten() {
        let row: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let place = (row[query.key()].to_string(), row["window_start"].to_string());
        if let Some(other) = seen.insert(place, text) {
            return Err(format!("{other} and {text} are there at once"));
        }
    }
    Ok(())
}
