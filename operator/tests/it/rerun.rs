//! Finished, run again, changed, fresh, suspended.

use weir_state::ids::Generation;
use weir_state::names::ObjectNamer;

use crate::command::{Folder, assert_counted, counting, counting_begun, until};

const ROWS: u64 = 20_000;

fn finished() -> Folder {
    let folder = Folder::new();
    folder.write("job.yaml", &counting("counts", ROWS, None));
    folder.weir(&["run", "job.yaml"]).check(0, &["job counts finished", "rows in 20000"]);
    assert!(!folder.files("out").is_empty());
    folder
}

#[test]
fn a_finished_job_says_so_and_changes_nothing() {
    let folder = finished();
    let (rows, files) = (folder.rows("out"), folder.files("out"));
    let again = folder.weir(&["run", "job.yaml"]);
    again.check(0, &["finished already", "rows in 20000", "--fresh"]);
    assert!(again.out.is_empty());
    assert_eq!((folder.rows("out"), folder.files("out")), (rows, files));
    folder.write("job.yaml", &counting("counts", ROWS, None).replace("replicas: 2", "replicas: 3"));
    folder.weir(&["run", "job.yaml"]).check(0, &["finished already"]);
}

/// As after `kill -9` between the job's last record and its last clean-up.
#[test]
fn a_finished_job_run_again_deletes_what_its_last_process_left() {
    let folder = finished();
    let runs = std::fs::read_dir(folder.path().join("weir-data/counts/state")).unwrap();
    let mut runs = runs.map(|run| run.unwrap().file_name().into_string().unwrap());
    let run = runs.find(|name| name != "claims").unwrap();
    let id = run.split_once('-').unwrap().1;
    let object = ObjectNamer::new(Generation(1), "0011223344556677").name("table");
    let object = format!("weir-data/counts/state/{run}/objects/{object}");
    let staged = format!("out/_weir/{id}/g1/out-{id}-000000000001-1-0-0.ndjson.staged");
    let (object, staged) = (folder.write(&object, "x"), folder.write(&staged, "x"));
    folder.weir(&["run", "job.yaml"]).check(0, &["finished already"]);
    assert!(!object.exists() && !staged.exists());
}

#[test]
fn a_finished_job_whose_pipeline_changed_is_refused() {
    let folder = finished();
    folder.write("job.yaml", &counting("counts", ROWS, None).replace("1s", "2s"));
    folder.weir(&["run", "job.yaml"]).check(2, &["its pipeline was changed", "--fresh"]);
}

#[test]
fn fresh_begins_anew_and_deletes_its_own_files_only() {
    let folder = finished();
    let (rows, before) = (folder.rows("out"), folder.files("out"));
    folder.write("out/notes.txt", "mine");
    folder.write("out/other-abc-000000000001-1-0-0.ndjson", "");
    folder.weir(&["run", "job.yaml", "--fresh"]).check(0, &["job counts finished"]);
    assert_eq!(folder.rows("out"), rows);
    assert!(before.iter().all(|file| !file.exists()), "files of the earlier run stay");
    assert!(folder.path().join("out/notes.txt").exists());
    assert!(folder.path().join("out/other-abc-000000000001-1-0-0.ndjson").exists());
}

#[test]
fn files_of_an_unknown_run_are_refused_with_the_folder() {
    let folder = finished();
    std::fs::remove_dir_all(folder.path().join("weir-data")).unwrap();
    let refused = folder.weir(&["run", "job.yaml"]);
    refused.check(2, &["spec.pipeline[2].sink: out holds files of step out", "--fresh"]);
    folder.weir(&["run", "job.yaml", "--fresh"]).check(0, &["finished"]);
}

#[test]
fn a_second_run_on_one_folder_names_the_first() {
    let folder = Folder::new();
    folder.write("job.yaml", &counting("counts", 1_000_000, Some(1_000)));
    let first = folder.start(&["run", "job.yaml"]);
    until("workers run", || first.workers().len() == 2);
    let pid = format!("process {}", first.pid());
    folder.weir(&["run", "job.yaml"]).check(2, &["is in use by", &pid, "--data"]);
}

#[test]
fn a_suspended_job_goes_on_where_it_was() {
    let (folder, mut first) = counting_begun(ROWS);
    first.signal("INT");
    assert_eq!(first.wait(), Some(130), "{}", first.stderr());
    let said = first.stderr();
    assert!(said.contains("suspended") && said.contains("goes on"), "{said}");

    folder.weir(&["state", "ls", "weir-data/counts/state"]).check(0, &[]);
    let shown = folder.weir(&["state", "show", "weir-data/counts/state"]).out;
    assert!(shown.contains("phase               suspended"), "{shown}");
    assert!(shown.contains("\n  events was read up to split "), "{shown}");

    folder.weir(&["run", "job.yaml"]).check(0, &["job counts finished"]);
    assert_counted(&folder, ROWS);
}

#[test]
fn an_unfinished_job_refuses_a_changed_window_and_takes_a_new_step() {
    let (folder, mut first) = counting_begun(ROWS);
    first.signal("TERM");
    assert_eq!(first.wait(), Some(130));
    let manifest = counting("counts", ROWS, Some(10_000));
    folder.write("job.yaml", &manifest.replace("1s", "2s"));
    folder.weir(&["run", "job.yaml"]).check(2, &["spec.pipeline[1]", "step counts", "--fresh"]);
    folder.write(
        "job.yaml",
        &manifest.replace("keyGroups", "").replace("spec:\n", "spec:\n  state: {keyGroups: 64}\n"),
    );
    folder.weir(&["run", "job.yaml"]).check(2, &["spec.state.keyGroups", "128"]);
    let more =
        format!("{manifest}    - id: more\n      from: counts\n      sink: {{blackhole: {{}}}}\n");
    folder.write("job.yaml", &more);
    folder.weir(&["run", "job.yaml"]).check(0, &["job counts finished"]);
}

#[test]
fn print_alone_goes_to_standard_output() {
    let folder = Folder::new();
    let manifest = counting("counts", 1_000, None)
        .replace("files: {uri: out, format: ndjson}", "print: {limit: 3}");
    folder.write("job.yaml", &manifest);
    let done = folder.weir(&["run", "job.yaml"]);
    done.check(0, &["finished"]);
    assert_eq!(done.out.lines().count(), 3, "{}", done.out);
    assert!(done.out.lines().all(|line| line.starts_with('{') && line.ends_with('}')));
}
