//! Changelogs: what is taken away and was never there, and the modes of one list of items. Stored
//! states of version 2.

use super::model::{Change, compiled, items, part, stored};
use super::*;

const CHANGES: InputMode = InputMode { has_time: true, retractable: true };

fn change(i: i64, time: i64, away: bool) -> Change {
    Change { row: row(i, i as f64), time, away }
}

/// Applies batches as a step does: part by part, each whole checked.
fn apply(item: &str, mode: InputMode, batches: &[&[Change]]) -> Result<String, GroupError> {
    let aggregates = compile_for(&[&format!("{item} as x")], mode).unwrap();
    let mut whole = aggregates.new_state();
    for batch in batches {
        aggregates.merge(&mut whole, &part(&aggregates, batch, mode));
        aggregates.settle(&mut whole)?;
        whole = stored(&aggregates, &whole);
    }
    Ok(show(&aggregates.finish(&[whole])?[0]))
}

#[test]
fn what_was_never_there_is_an_error_that_names_the_call() {
    let there = [change(1, 0, false), change(2, 1, false)];
    let by_value = [
        "count(distinct i)",
        "sum(distinct i)",
        "avg(distinct d)",
        "min(i)",
        "max(s)",
        "first(i)",
        "last(f)",
        "array_agg(i)",
        "array_agg(distinct s)",
    ];
    for has_time in [true, false] {
        let mode = InputMode { has_time, retractable: true };
        for item in by_value {
            let error = apply(item, mode, &[&there, &[change(7, 1, true)]]).unwrap_err();
            let expected = format!("`{item}`: a row was retracted that is not there");
            assert_eq!(error.message.to_lowercase(), expected.to_lowercase());
        }
        for item in items() {
            let text = item.text(0);
            let text = text.split(" as ").next().unwrap();
            let all_gone = there.clone().map(gone);
            let error = apply(text, mode, &[&there, &all_gone, &all_gone]);
            let message = error.unwrap_err().message;
            assert!(message.ends_with("a row was retracted that is not there"), "{message}");
        }
        // Sums keep no values: they tell when none are left.
        for item in ["sum(i)", "avg(f)", "sum(d)", "var_pop(i)", "stddev(f)", "bool_and(b)"] {
            let wrong = [change(1, 0, true), change(-7, 1, true)];
            let error = apply(item, mode, &[&there, &wrong]).unwrap_err();
            assert_eq!(error.message, format!("`{item}`: a row was retracted that is not there"));
        }
    }
}

fn gone(change: Change) -> Change {
    Change { away: true, ..change }
}

#[test]
fn a_row_may_go_under_another_time_than_its_own() {
    let there = [change(1, 3, false), change(1, 5, false), change(2, 4, false)];
    // The oldest row of that value goes, unless one has the very time.
    for (time, expected) in [(9, "[2, 1]"), (5, "[1, 2]"), (0, "[2, 1]")] {
        let found = apply("array_agg(i)", CHANGES, &[&there, &[change(1, time, true)]]);
        assert_eq!(found.unwrap(), expected, "{time}");
    }
    let updated = [change(2, 6, true), change(3, 6, false)];
    assert_eq!(apply("last(i)", CHANGES, &[&there, &updated]).unwrap(), "3");
    assert_eq!(apply("first(i)", CHANGES, &[&there, &updated]).unwrap(), "1");
    assert_eq!(apply("array_agg(i)", CHANGES, &[&there, &updated]).unwrap(), "[1, 1, 3]");
}

#[test]
fn a_part_may_take_away_what_came_in_an_earlier_one() {
    let by_arrival = InputMode { has_time: false, retractable: true };
    let came = [change(1, 0, false), change(2, 0, false), change(1, 0, false)];
    // The latest of equal values goes.
    let went = [change(1, 0, true), change(3, 0, false)];
    assert_eq!(apply("array_agg(i)", by_arrival, &[&came, &went]).unwrap(), "[1, 2, 3]");
    assert_eq!(apply("last(i)", by_arrival, &[&came, &[change(1, 0, true)]]).unwrap(), "2");
    assert_eq!(apply("max(i)", by_arrival, &[&came, &[change(2, 0, true)]]).unwrap(), "1");
}

#[test]
fn infinities_and_nan_can_go_again() {
    let rows = |values: &[f64], away| -> Vec<Change> {
        let change = |f: &f64| Change { row: row(1, *f), time: 0, away };
        values.iter().map(change).collect()
    };
    let came = rows(&[1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY], false);
    for (gone, sum, variance) in [
        (&[][..], "NaN", "NaN"),
        (&[f64::NAN], "NaN", "NaN"),
        (&[f64::NAN, f64::INFINITY], "-inf", "NaN"),
        (&[-f64::NAN, f64::INFINITY, f64::NEG_INFINITY], "1.0", "0.0"),
    ] {
        let gone = rows(gone, true);
        assert_eq!(apply("sum(f)", CHANGES, &[&came, &gone]).unwrap(), sum);
        assert_eq!(apply("var_pop(f)", CHANGES, &[&came, &gone]).unwrap(), variance);
    }
}

#[test]
fn modes_show_in_the_signature_where_they_matter() {
    let canonical = |items: &[&str], has_time, retractable| {
        compile_for(items, InputMode { has_time, retractable }).unwrap().canonical()
    };
    let plain = canonical(&["sum(i) as x"], true, false);
    assert_eq!(plain, "sum ( i ) as x over sum(int64)");
    assert_eq!(plain, canonical(&["sum(i) as x"], false, false));
    assert_eq!(
        canonical(&["sum(i) as x"], true, true),
        "sum ( i ) as x over sum(int64); count(*) of changes"
    );
    assert_eq!(
        canonical(&["last(i) FILTER (WHERE b) as x", "COUNT(DISTINCT s) as y"], false, false),
        "last ( i ) filter ( where b ) as x; count ( distinct s ) as y over last(int64) by \
         arrival; count(distinct string)"
    );
    assert_ne!(
        canonical(&["last(i) as x"], false, false),
        canonical(&["last(i) as x"], true, false)
    );
    assert_eq!(
        canonical(&["stddev(i) as x"], true, false),
        "stddev ( i ) as x over stddev_samp(int64)"
    );
}

#[test]
fn rows_of_another_kind_are_refused() {
    let rows = [row(1, 1.0)];
    let by_time = compile(&["last(i) as x"]).unwrap();
    let error = by_time.inputs(&batch(&rows), None, None).unwrap_err();
    assert_eq!(error.message, "rows without event time reached aggregates that go by it");
    let retracts = BooleanArray::from(vec![false]);
    let error = compile(&["sum(i) as x"]).unwrap().inputs(&batch(&rows), None, Some(&retracts));
    assert_eq!(error.unwrap_err().message, "changes reached aggregates of rows that only come");
}

#[test]
fn a_state_of_plain_rows_keeps_one_value_and_says_its_size() {
    let rows: Vec<Row> = (0..500).map(|i| row(i % 100, i as f64)).collect();
    let size = |item: &str| {
        let aggregates = compile(&[&format!("{item} as x")]).unwrap();
        let state = state_of(&aggregates, &rows);
        (bytes_of(&aggregates, &state).len(), state.size_bytes())
    };
    for item in ["min(i)", "max(s)", "first(s)", "last(i)", "bool_or(b)", "var(i)", "sum(f)"] {
        let (stored, in_memory) = size(item);
        assert!(stored < 64 && in_memory < 512, "{item}: {stored}, {in_memory}");
    }
    let (stored, in_memory) = size("count(distinct s)");
    assert!((300..600).contains(&stored) && in_memory > 2_000, "{stored}, {in_memory}");
    assert!(size("array_agg(i)").0 > 1_500);
}

#[test]
fn lists_and_structs_are_values_like_others() {
    let columns = [("l", "list<struct<a: int64, b: string>>"), ("i", "int64")];
    let column = |(name, data): (&str, &str)| Field::new(name, types::parse(data).unwrap(), true);
    let schema = Arc::new(Schema::new(columns.map(column).to_vec()));
    let lines = [
        r#"{"l": [{"a": 1, "b": "x"}, null], "i": 1}"#,
        r#"{"l": [], "i": 2}"#,
        r#"{"l": null, "i": 3}"#,
        r#"{"l": [{"a": 1, "b": "x"}, null], "i": 4}"#,
        r#"{"l": [{"a": 1, "b": null}], "i": 5}"#,
    ];
    let text = lines.join("\n");
    let reader = arrow::json::ReaderBuilder::new(Arc::clone(&schema)).build(text.as_bytes());
    let batch = reader.unwrap().next().unwrap().unwrap();
    let items = ["array_agg(l) as a", "count(distinct l) as b", "first(l) as c", "last(l) as d"];
    let [x, empty, b] = ["[{a: 1, b: x}, null]", "[]", "[{a: 1, b: null}]"];
    let expected = [format!("[{x}, {empty}, null, {x}, {b}]"), "3".into(), x.into(), b.into()];
    for retractable in [false, true] {
        let mode = InputMode { has_time: true, retractable };
        let aggregates = compile_aggregates(&schema, &items.map(str::to_owned), mode).unwrap();
        let times = Int64Array::from_iter_values(0..5);
        let inputs = aggregates.inputs(&batch, Some(&times), None).unwrap();
        let mut states = [aggregates.new_state()];
        aggregates.update_many(&mut states, &inputs, &[0; 5]);
        let results = aggregates.finish(&[stored(&aggregates, &states[0])]).unwrap();
        assert_eq!(results.iter().map(show).collect::<Vec<_>>(), expected);
    }
}

/// Rows find their slot by its index: it should not straddle lines of the cache.
#[test]
fn a_slot_is_a_line_of_the_cache() {
    assert_eq!(size_of::<Slot>(), 64);
}

fn stored_changes() -> Vec<Change> {
    let rows = stored_rows().into_iter().chain(stored_rows());
    let specials = [f64::NAN, f64::INFINITY, -0.0, 0.0].map(|f| row(7, f));
    let change = |(time, row): (i64, Row)| Change { row, time: time - 4, away: false };
    (0..).zip(rows.chain(specials)).map(change).collect()
}

/// Version 2, as it was first written. They must be read for ever.
#[test]
fn stored_states_of_version_2_are_still_read() {
    for (name, has_time, retractable) in [
        ("plain", true, false),
        ("arrival", false, false),
        ("changes", true, true),
        ("changes-arrival", false, true),
    ] {
        let mode = InputMode { has_time, retractable };
        let aggregates = stored_items(mode);
        let path = format!("{}/testdata/aggregate-v2-{name}.bin", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).unwrap();
        let state = aggregates.decode(&bytes).unwrap();
        let mut changes = stored_changes();
        if retractable {
            changes.extend(stored_changes().into_iter().skip(11).map(gone));
        }
        assert_eq!(state, part(&aggregates, &changes, mode), "{name}");
        assert_eq!(bytes_of(&aggregates, &state), bytes, "{name}");
        for end in 0..bytes.len() {
            let error = aggregates.decode(&bytes[..end]).unwrap_err();
            assert!(matches!(error, StateError::Damaged { .. }), "{end}: {error}");
        }
    }
    let plain = compile(&["sum(i) as x"]).unwrap();
    assert_eq!(
        plain.decode(&[2, 2, 0, 0]).unwrap_err().to_string(),
        "aggregate state is damaged at byte 0: the version of these aggregates"
    );
    assert!(compiled(CHANGES).decode(&[3]).is_err());
}

/// All kinds of slots over all kinds of values.
fn stored_items(mode: InputMode) -> Aggregates {
    let items = [
        "count(*) as a",
        "sum(i) as b",
        "avg(f) as c",
        "sum(d) as d",
        "min(wide) as e",
        "max(s) as f",
        "first(bin) as g",
        "last(f) as h",
        "array_agg(struct(s, day)) as i",
        "array_agg(distinct t) as j",
        "count(distinct f) as k",
        "sum(distinct small) as l",
        "bool_and(b) as m",
        "stddev(f) as n",
        "var_pop(wide) as o",
        "array_agg(b) filter (where i > 0) as p",
    ];
    compile_for(&items, mode).unwrap()
}
