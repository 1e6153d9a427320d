//! `weir init`: what it writes is sound and runs, and nothing is overwritten.

use crate::command::Folder;

#[test]
fn what_init_writes_is_sound_and_runs_as_it_is() {
    let folder = Folder::new();
    folder.weir(&["init"]).check(0, &["job.yaml is written; `weir run job.yaml` runs it"]);
    folder.weir(&["validate", "job.yaml"]).check(0, &["job.yaml: no problems"]);
    folder.weir(&["run", "job.yaml"]).check(0, &["job job finished: rows in 20000"]);
    // 20 keys in 20 windows of a second; of the even rows there are 10,000.
    let total: u64 = folder.rows("out/job").keys().map(|row| number(row, "rows")).sum();
    assert_eq!(total, 10_000);

    folder.weir(&["init", "second.yaml"]).check(0, &["second.yaml is written"]);
    folder.weir(&["run", "second.yaml"]).check(0, &["job second finished"]);
    assert!(!folder.files("out/second").is_empty());
}

fn number(row: &str, field: &str) -> u64 {
    let row: serde_json::Value = serde_json::from_str(row).unwrap();
    row[field].as_u64().unwrap()
}

#[test]
fn init_overwrites_nothing() {
    let folder = Folder::new();
    let path = folder.write("job.yaml", "mine");
    let refused = folder.weir(&["init"]);
    refused.check(2, &[]);
    assert_eq!(
        refused.err,
        "error: job.yaml is there already and `weir init` overwrites nothing; name another file, \
         as in `weir init other.yaml`\n"
    );
    assert_eq!(std::fs::read_to_string(path).unwrap(), "mine");
    let nowhere = folder.weir(&["init", "no/where.yaml"]);
    nowhere.check(2, &["error: cannot write no/where.yaml: No such file or directory"]);
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    folder.weir(&["init", "folder"]).check(2, &["folder is there already"]);
}
