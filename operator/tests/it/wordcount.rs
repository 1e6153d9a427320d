//! The example that counts words without end: with an end the independent engine's result at every
//! width, without one what `make demo` tells its users to try.

use crate::command::{Folder, kill, until};
use crate::rows::{assert_sink_is, root};

/// The example, changed.
fn manifest(changes: &[(&str, &str)]) -> String {
    let path = root().join("examples/wordcount.yaml");
    let text = std::fs::read_to_string(path).expect("the example");
    changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

#[test]
fn counts_equal_the_independent_engines_at_every_width() {
    for (workers, slots) in [(1, 1), (2, 3), (3, 1)] {
        let folder = Folder::new();
        let text = manifest(&[
            ("replicas: 2", &format!("replicas: {workers}\n  slots: {slots}")),
            ("interval: 500ms", "interval: 100ms"),
            ("every: 5s", "every: 300ms"),
            ("{distinct: 1000,", "{count: 100000, distinct: 1000,"),
            ("rate: 20000", "rate: 200000"),
        ]);
        folder.write("wordcount.yaml", &text);
        folder.weir(&["run", "wordcount.yaml"]).check(0, &["finished", "rows in 100000"]);
        assert_sink_is(&folder, "out/wordcount", "wordcount.counts.ndjson");
        folder.assert_nothing_runs();
    }
}

/// Counts in the table, all together.
fn total(folder: &Folder) -> u64 {
    let counts = folder.rows("out/wordcount").into_iter().map(|(line, times)| {
        let row: serde_json::Value = serde_json::from_str(&line).expect("a row");
        assert_eq!(times, 1, "one row of each word: {line}");
        row["count"].as_u64().expect("a count")
    });
    counts.sum()
}

#[test]
fn no_word_is_lost_or_counted_twice_by_what_the_demo_offers() {
    let folder = Folder::new();
    folder.write("wordcount.yaml", &manifest(&[("every: 5s", "every: 1s")]));
    let mut run = folder.start(&["run", "wordcount.yaml"]);
    until("the counts can be looked at", || !folder.files("out/wordcount").is_empty());

    let text = manifest(&[("every: 5s", "every: 1s"), ("replicas: 2", "replicas: 4")]);
    folder.write("wordcount.yaml", &text);
    let said = "rescaled from 2 replicas with 1 slots to 4 with 1, pause ";
    until(said, || run.stderr().contains(said));

    let victim = run.workers()[0];
    assert!(run.stderr().contains(&format!(" runs as process {victim}\n")), "{}", run.stderr());
    assert!(kill(victim, "KILL"), "it ran");
    until("the loss is told", || run.stderr().contains("lost worker"));
    let goes_on = |line: &str| line.starts_with("running: ") && line.contains("workers replaced");
    until("it counts on", || run.stderr().lines().any(goes_on));
    assert!(!run.workers().contains(&victim));

    run.signal("INT");
    assert_eq!(run.wait(), Some(130), "{}", run.stderr());
    let said = format!("suspended: rows in {}, ", total(&folder));
    assert!(run.stderr().contains(&said), "no {said:?} in {}", run.stderr());
    folder.assert_nothing_runs();
}
