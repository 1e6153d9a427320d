//! Rows of a sink and rows that are expected, compared as bags.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command::Folder;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").into()
}

fn expected(name: &str) -> Vec<Value> {
    let path = root().join("e2e/expected").join(name);
    let text = std::fs::read_to_string(path).expect("expected rows are committed");
    text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
}

/// Compares a sink's committed rows with the independent engine's, floats to 1e-9: rows are matched
/// by all that is not a float.
#[track_caller]
pub(crate) fn assert_sink_is(folder: &Folder, sink: &str, expected_rows: &str) {
    let lines = folder.rows(sink);
    let times = lines.iter().flat_map(|(line, times)| std::iter::repeat_n(line, *times));
    let actual: Vec<Value> =
        times.map(|line| serde_json::from_str(line).expect("a row of JSON")).collect();
    let (actual, expected) = (bag(&actual), bag(&expected(expected_rows)));
    for (key, wanted) in &expected {
        let Some(got) = actual.get(key) else { panic!("missing: {key} {wanted:?}") };
        assert_eq!(got.len(), wanted.len(), "{key} came {} times", got.len());
        for (got, wanted) in got.iter().flatten().zip(wanted.iter().flatten()) {
            let tolerance = 1e-9 * wanted.abs().max(1.0);
            assert!((got - wanted).abs() <= tolerance, "{key}: {got}, expected {wanted}");
        }
    }
    for key in actual.keys() {
        assert!(expected.contains_key(key), "not expected: {key}");
    }
}

/// Rows by their exact part; the floats of each beside it, in column order.
fn bag(rows: &[Value]) -> BTreeMap<String, Vec<Vec<f64>>> {
    let mut bag: BTreeMap<String, Vec<Vec<f64>>> = BTreeMap::new();
    for row in rows {
        let row = row.as_object().expect("a row is an object");
        let is_float = |name: &str| name.starts_with("mean");
        let exact: BTreeMap<_, _> = row.iter().filter(|(name, _)| !is_float(name)).collect();
        let floats = row
            .iter()
            .filter(|(name, _)| is_float(name))
            .map(|(_, value)| value.as_f64().expect("a float"))
            .collect();
        bag.entry(serde_json::to_string(&exact).expect("JSON")).or_default().push(floats);
    }
    for floats in bag.values_mut() {
        floats.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
    }
    bag
}
