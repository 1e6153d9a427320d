//! `weir plan`: what a manifest would do, with and without state, and that nothing is written.

use crate::command::Folder;

const JOB: &str = "
apiVersion: weir.dev/v1alpha1
kind: StatefulJob
metadata: {name: counts}
spec:
  replicas: 1
  slots: 3
  pipeline:
    - {id: made, source: {generate: {keys: {count: 1000, distinct: 10}}}}
    - {id: kept, from: made, filter: seq > 10}
    - {id: sums, from: kept, aggregate: {key: [key], values: [count(*) as n]}}
    - {id: out, from: sums, sink: {blackhole: {}}}
";

#[test]
fn a_plan_says_what_a_new_job_would_be_and_writes_nothing() {
    let folder = Folder::new();
    folder.write("job.yaml", JOB);
    let plan = folder.weir(&["plan", "-f", "job.yaml"]);
    plan.check(0, &[]);
    for line in [
        "job         counts: 4 steps in 2 stages",
        "width       3: 1 replicas with 3 slots",
        "key groups  128: 42 or 43 for each subtask",
        "memory      512 MiB of state for each worker",
        "step        kept: filter in stage 0; columns key, value, seq, time",
        "step        sums: aggregate in stage 1; keyed state; columns key, n",
        "then        the job begins",
    ] {
        assert!(plan.out.lines().any(|its| its == line), "{line}\n{}", plan.out);
    }
    assert!(plan.out.contains("nothing is there yet"), "{}", plan.out);
    assert!(!folder.path().join("weir-data").exists(), "a plan made a folder");
}

#[test]
fn a_plan_says_what_is_left_to_do_and_what_is_refused() {
    let folder = Folder::new();
    folder.write("job.yaml", JOB);
    folder.weir(&["run", "job.yaml"]).check(0, &["finished"]);
    let show = || folder.weir(&["state", "show", "weir-data/counts/state"]).out;
    let before = show();
    let plan = folder.weir(&["plan", "-f", "job.yaml"]);
    plan.check(0, &[]);
    assert!(plan.out.contains("then        nothing: the job is finished"), "{}", plan.out);
    folder.write("other.yaml", &JOB.replace("count(*) as n", "max(seq) as n"));
    let refused = folder.weir(&["plan", "-f", "other.yaml"]);
    refused.check(2, &["other.yaml: refused", "--fresh"]);
    assert_eq!(refused.out, "");
    assert_eq!(show(), before, "a plan wrote to the state");
}

#[test]
fn a_plan_against_an_earlier_manifest_says_what_each_change_does() {
    let folder = Folder::new();
    folder.write("old.yaml", JOB);
    let text = JOB.replace("slots: 3", "slots: 2\n  checkpoint: {interval: 1s}");
    folder.write("job.yaml", &text);
    let plan = folder.weir(&["plan", "-f", "job.yaml", "--from", "old.yaml"]);
    plan.check(0, &[]);
    assert!(plan.out.contains("change      spec.checkpoint: live"), "{}", plan.out);
    assert!(plan.out.contains("change      spec.slots: cut"), "{}", plan.out);
    let same = folder.weir(&["plan", "-f", "old.yaml", "--from", "old.yaml"]);
    assert!(same.out.contains("change      none"), "{}", same.out);
    folder.write("fixed.yaml", &JOB.replace("slots: 3", "slots: 3\n  state: {keyGroups: 64}"));
    let fixed = folder.weir(&["plan", "-f", "fixed.yaml", "--from", "old.yaml"]);
    fixed.check(2, &[]);
    assert!(fixed.out.contains("spec.state.keyGroups: refused"), "{}", fixed.out);
}

#[test]
fn problems_of_a_manifest_are_said_as_everywhere() {
    let folder = Folder::new();
    folder.write("job.yaml", &JOB.replace("seq > 10", "nothing > 10"));
    let plan = folder.weir(&["plan", "-f", "job.yaml"]);
    plan.check(2, &["spec.pipeline[1].filter"]);
}
