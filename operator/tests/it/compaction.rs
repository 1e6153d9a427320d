//! Compactors beside the workers of a `weir run`: killed at random under a job with much state, its
//! output is right and its folder holds exactly what the journal names; without any the workers
//! compact themselves and say so.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::command::{Folder, Running, kill, sleep, until};
use crate::flights::Random;
use crate::leftovers::assert_folders_are_as_the_journal_says;

const ROWS: u64 = 400_000;
const DISTINCT: u64 = 20_000;
/// Compactors that must have been hit, and compactions that they must have carried out.
const KILLS_MIN: u32 = 5;
const COMPACTED_MIN: usize = 5;

/// Running totals of many keys into a table: each checkpoint flushes much of the state again.
fn manifest(compaction: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1
kind: StatefulJob
metadata:
  name: totals
spec:
  replicas: 2
  compaction: {compaction}
  state: {{memory: 8Mi}}
  checkpoint: {{interval: 100ms}}
  pipeline:
    - id: events
      source:
        generate: {{keys: {{count: {ROWS}, distinct: {DISTINCT}, valueBytes: 8}}, rate: 60000}}
    - id: totals
      from: events
      aggregate: {{key: [key], values: [count(*) as rows, sum(seq) as total]}}
    - id: out
      from: totals
      sink: {{table: {{uri: out, key: [key], format: ndjson}}}}
"
    )
}

/// Process ids of compactors, as `weir run` has told them.
fn compactors(run: &Running) -> Vec<u32> {
    let told = run.stderr();
    let of = |line: &str| line.strip_prefix("compactor ")?.split(' ').next_back()?.parse().ok();
    told.lines().filter_map(of).collect()
}

/// Lines of the compactors' logs that tell of a compaction.
fn compacted(folder: &Folder) -> usize {
    let logs = folder.path().join("weir-data/totals/logs");
    let logs = std::fs::read_dir(logs).unwrap().flatten();
    let logs = logs.filter(|log| log.file_name().to_string_lossy().starts_with("compactor-"));
    let texts = logs.map(|log| std::fs::read_to_string(log.path()).unwrap());
    texts.map(|text| text.matches("carried out compaction").count()).sum()
}

#[track_caller]
fn assert_totals(folder: &Folder) {
    let rows = folder.rows("out");
    let mut total = BTreeMap::new();
    for row in rows.keys() {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        let number = |name: &str| row[name].as_u64().unwrap();
        let before = total.insert(row["key"].to_string(), (number("rows"), number("total")));
        assert_eq!(before, None, "two rows of one key");
    }
    let count: u64 = total.values().map(|(rows, _)| rows).sum();
    let sum: u64 = total.values().map(|(_, sum)| sum).sum();
    assert_eq!((count, sum), (ROWS, ROWS * (ROWS - 1) / 2), "of {} keys", total.len());
}

#[test]
fn compactors_killed_at_random_change_no_output_and_leave_nothing() {
    let (folder, mut random) = (Folder::new(), Random(7));
    folder.write("job.yaml", &manifest("{mode: Remote, minReplicas: 2, maxReplicas: 3}"));
    let mut run = folder.start(&["run", "job.yaml"]);
    until("a compaction was carried out", || run.has_ended() || compacted_yet(&folder));
    let mut kills = 0;
    while !run.has_ended() {
        sleep(Duration::from_millis(100 + random.below(400)));
        let all = compactors(&run);
        let living: Vec<&u32> = all.iter().rev().take(2).collect();
        let Some(one) = living.get(usize::try_from(random.below(2)).unwrap()) else { continue };
        kills += u32::from(kill(**one, "KILL"));
    }
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    assert!(kills >= KILLS_MIN, "only {kills} kills: {}", run.stderr());
    assert!(compacted(&folder) >= COMPACTED_MIN, "{} compactions", compacted(&folder));
    assert!(run.stderr().contains("restarts 0"), "{}", run.stderr());
    assert_totals(&folder);
    folder.assert_nothing_runs();
    assert_folders_are_as_the_journal_says(&folder, "totals", "out");
}

fn compacted_yet(folder: &Folder) -> bool {
    folder.path().join("weir-data/totals/logs/compactor-0.log").exists() && compacted(folder) > 0
}

#[test]
fn without_a_compactor_the_workers_compact_and_say_so() {
    let folder = Folder::new();
    folder.write("job.yaml", &manifest("{mode: Remote, minReplicas: 0, maxReplicas: 0}"));
    let done = folder.weir(&["run", "job.yaml"]);
    done.check(0, &["workers compact themselves: no compactor is ready (0 wanted)"]);
    assert_totals(&folder);
    assert_folders_are_as_the_journal_says(&folder, "totals", "out");
}
