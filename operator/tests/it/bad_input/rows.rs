//! Rows that are bad, and expressions that fail on a row or behind an aggregate.

use super::{fails, job};
use crate::command::Folder;

const SOURCE: &str = "- {id: rows, source: {files: {uri: rows.ndjson, schema: {x: int64, s: string, \
                      t: timestamp}}, eventTime: {column: t}}}\n";
const SINK: &str = "sink: {files: {uri: out}}}\n";

/// A job over `rows.ndjson` fails with exactly this sentence, and nothing of it is visible.
#[track_caller]
fn row_fails(rows: &str, steps: &str, sentence: &str) {
    let folder = Folder::new();
    folder.write("rows.ndjson", rows);
    let last = if steps.is_empty() { "rows" } else { "last" };
    folder.write(
        "job.yaml",
        &job("job", &format!("{SOURCE}{steps}- {{id: out, from: {last}, {SINK}")),
    );
    fails(&folder, &["run", "job.yaml"], 1, &[&format!("error: job job failed: {sentence}")]);
    assert!(folder.files("out").is_empty(), "a failed job committed output");
}

#[test]
fn a_bad_row_is_named_by_file_line_column_and_text() {
    let first = "{\"x\":1,\"s\":\"a\",\"t\":1}\n";
    let at = "rows: bad row in rows.ndjson, line 2 (byte 22)";
    let long = "ä".repeat(500);
    for (row, what) in [
        (
            "{\"x\":\"2\",\"t\":2}",
            ", column x: a string where int64 is expected: {\"x\":\"2\",\"t\":2}".to_owned(),
        ),
        (
            "{\"s\":7,\"t\":2}",
            ", column s: a number where string is expected: {\"s\":7,\"t\":2}".to_owned(),
        ),
        ("{\"x\":2.5,\"t\":2}", ", column x: 2.5 is no int64: {\"x\":2.5,\"t\":2}".to_owned()),
        ("{\"t\":\"soon\"}", ", column t: \"soon\" is no timestamp: {\"t\":\"soon\"}".to_owned()),
        ("{\"x\":2}", ", column t: the event time is null: {\"x\":2}".to_owned()),
        ("[1,2]", ": a list where an object is expected: [1,2]".to_owned()),
        ("x,s,t", ": is not JSON: no JSON value begins like this at byte 0: x,s,t".to_owned()),
        (
            &format!("{{\"x\":\"{long}\",\"t\":2}}"),
            format!(", column x: a string where int64 is expected: {{\"x\":\"{}…", "ä".repeat(194)),
        ),
        (
            &format!("{{\"s\":\"{long}"),
            format!(": is not JSON: a string has no end at byte 1006: …{}", "ä".repeat(50)),
        ),
    ] {
        row_fails(&format!("{first}{row}\n{first}"), "", &format!("{at}{what}"));
    }
}

#[test]
fn an_expression_that_fails_names_step_source_and_offset() {
    let rows = "{\"x\":1,\"s\":\"1\",\"t\":1}\n{\"x\":0,\"s\":\"b\",\"t\":2}\n{\"x\":9223372036854775807,\"s\":\"3\",\"t\":3}\n";
    for (verb, byte, what) in [
        ("select: [10 / x as q]", 22, "`10 / x as q`: division by zero"),
        ("select: [10 % x as q]", 22, "`10 % x as q`: division by zero"),
        ("select: [x + 1 as q]", 44, "`x + 1 as q`: overflow in 9223372036854775807 + 1"),
        ("filter: x * 2 > 0", 44, "`x * 2 > 0`: overflow in 9223372036854775807 * 2"),
        (
            "select: [cast(s as int64) as q]",
            22,
            "`cast(s as int64) as q`: cannot cast string 'b' to value of int64 type",
        ),
    ] {
        let step = format!("- {{id: last, from: rows, {verb}}}\n");
        row_fails(rows, &step, &format!("last: row of rows, rows.ndjson, byte {byte}: {what}"));
    }
}

#[test]
fn generated_rows_are_named_by_their_number() {
    let folder = Folder::new();
    let steps = "- {id: k, source: {generate: {keys: {count: 10, distinct: 2, valueBytes: 1}}}}
         - {id: q, from: k, select: [10 / (seq - 7) as q]}
         - {id: out, from: q, sink: {blackhole: {}}}";
    folder.write("job.yaml", &job("job", steps));
    let sentence = "error: job job failed: q: row of k, generate.keys, event 7: `10 / (seq - 7) as q`: division by zero";
    fails(&folder, &["run", "job.yaml"], 1, &[sentence]);
}

#[test]
fn behind_an_aggregate_step_and_key_are_named() {
    let rows = "{\"x\":9223372036854775807,\"s\":\"a\",\"t\":1}\n{\"x\":5,\"s\":\"a\",\"t\":2}\n{\"x\":5,\"s\":\"b\",\"t\":2}\n";
    let first = "- {id: first, from: rows, aggregate: {key: [s], window: {tumble: 1h}, values: [count(*) as n]}}\n";
    let aggregate = |key: &str, value: &str| {
        format!(
            "- {{id: last, from: rows, aggregate: {{{key}window: {{tumble: 1h}}, values: [{value} as v]}}}}\n"
        )
    };
    for (steps, sentence) in [
        (aggregate("key: [s], ", "sum(x)"), "key a: `sum(x)`: the sum overflows int64"),
        (aggregate("", "sum(x)"), "the global group: `sum(x)`: the sum overflows int64"),
        (
            aggregate("key: [s], ", "1 / (count(*) - 1)"),
            "key b: `1 / (count(*) - 1) as v`: division by zero",
        ),
        // Up to the aggregate a row still has its place.
        (
            aggregate("key: [s], ", "sum(x + 1)"),
            "row of rows, rows.ndjson, byte 0: `sum(x + 1)`: overflow in 9223372036854775807 + 1",
        ),
        (
            format!("{first}- {{id: last, from: first, select: [1 / (n - 1) as q]}}\n"),
            "key b: `1 / (n - 1) as q`: division by zero",
        ),
        (
            format!(
                "{first}- {{id: few, from: first, filter: n < 2}}\n- {{id: last, from: few, filter: 1 / (n - 1) > 0}}\n"
            ),
            "key b: `1 / (n - 1) > 0`: division by zero",
        ),
        (
            format!(
                "{first}- {{id: last, from: first, aggregate: {{window: {{tumble: 1d}}, values: [sum(1 / (n - 1)) as q]}}}}\n"
            ),
            "the global group: `sum(1 / (n - 1))`: division by zero",
        ),
    ] {
        row_fails(rows, &steps, &format!("last: {sentence}"));
    }
}

#[test]
fn nullif_and_try_cast_avoid_it() {
    let folder = Folder::new();
    folder.write("rows.ndjson", "{\"x\":2,\"s\":\"7\",\"t\":1}\n{\"x\":0,\"s\":\"b\",\"t\":2}\n");
    let steps = format!(
        "{SOURCE}- {{id: a, from: rows, select: [\"10 / nullif(x, 0) as q\", try_cast(s as int64) as n]}}
         - {{id: out, from: a, sink: {{print: {{}}}}}}"
    );
    folder.write("job.yaml", &job("job", &steps));
    let done = folder.weir(&["run", "job.yaml"]);
    done.check(0, &["job job finished"]);
    assert_eq!(done.out, "{\"q\":5,\"n\":7}\n{\"q\":null,\"n\":null}\n");
}
