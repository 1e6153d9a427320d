//! `weir state gc`: after `kill -9`, beside a running job, and with the manifest gone.

use std::collections::BTreeSet;
use std::path::PathBuf;

use weir_state::ids::Generation;
use weir_state::journal::{Journal, Root};
use weir_state::names::ObjectNamer;
use weir_state::objects::{StoreOptions, open_existing};

use crate::command::{Folder, assert_counted, counting_begun, kill, until};
use crate::leftovers::files;

const ROWS: u64 = 30_000;
const STATE: &str = "weir-data/counts/state";

fn killed() -> Folder {
    let (folder, mut run) = counting_begun(ROWS);
    run.signal("KILL");
    run.wait();
    folder.assert_nothing_runs();
    folder
}

/// What the journal names: the run's folder, state objects, staged pieces.
fn named(folder: &Folder) -> (String, BTreeSet<String>, BTreeSet<String>) {
    let state = folder.path().join(STATE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let place = open_existing(&state.display().to_string(), &StoreOptions::default()).await;
        let journal = Journal::open(&Root::new(place.unwrap())).await.unwrap().unwrap();
        let objects = journal.state().named_objects().into_iter().map(str::to_owned).collect();
        let staged = journal.state().staged_pieces().into_iter();
        let staged = staged.map(|(_, name)| name.to_owned()).collect();
        (journal.incarnation().to_string(), objects, staged)
    })
}

/// Plants what generation `number` would have left; gives a state object and a staged piece.
fn leave(folder: &Folder, number: u64) -> [PathBuf; 2] {
    let (run, ..) = named(folder);
    let id = run.split_once('-').unwrap().1;
    let object = ObjectNamer::new(Generation(number), "0011223344556677").name("table");
    let staged = format!("out/_weir/{id}/g{number}/out-{id}-000000000001-1-0-9.ndjson.staged");
    [folder.write(&format!("{STATE}/{run}/objects/{object}"), "abc"), folder.write(&staged, "abc")]
}

#[track_caller]
fn assert_as_the_journal_says(folder: &Folder) {
    let (run, objects, staged) = named(folder);
    let there = |below: &str| files(&folder.path().join(below));
    assert_eq!(there(&format!("{STATE}/{run}/objects")), objects);
    let pieces: BTreeSet<String> =
        there("out/_weir").into_iter().map(|name| format!("_weir/{name}")).collect();
    assert!(pieces.is_subset(&staged), "{pieces:?} {staged:?}");
    let outside: Vec<String> =
        there(STATE).into_iter().filter(|name| !name.starts_with(&run)).collect();
    assert!(outside.iter().all(|name| name.starts_with("claims/")), "{outside:?}");
}

#[test]
fn after_kill_9_what_is_left_is_what_the_journal_names() {
    let folder = killed();
    let left = leave(&folder, 1);
    let before = files(folder.path());
    let dry = folder.weir(&["state", "gc", "--dry-run", STATE]);
    dry.check(0, &[]);
    for path in &left {
        let name = path.file_name().unwrap().to_str().unwrap();
        let line = dry.out.lines().find(|line| line.contains(name)).unwrap_or_default();
        assert!(line.starts_with("would go    named by no record "), "{}", dry.out);
        assert!(line.contains(" 3 bytes  "), "{line}");
    }
    assert!(dry.out.contains(" bytes would be deleted; held by "), "{}", dry.out);
    let logs = |name: &String| !name.ends_with(".log");
    let now = files(folder.path());
    assert_eq!(now.iter().filter(|n| logs(n)).count(), before.iter().filter(|n| logs(n)).count());

    let swept = folder.weir(&["state", "gc", STATE]);
    swept.check(0, &[]);
    let plain = dry.out.replace("would go ", "deleted  ").replace("would be deleted", "deleted");
    assert_eq!(swept.out, plain, "what was said is what is done");
    assert_as_the_journal_says(&folder);
    let again = folder.weir(&["state", "gc", STATE]);
    assert!(again.out.starts_with("0 objects, 0 bytes deleted; held by "), "{}", again.out);

    folder.weir(&["run", "job.yaml"]).check(0, &["job counts finished"]);
    assert_counted(&folder, ROWS);
}

#[test]
fn beside_a_running_job_nothing_that_lives_goes() {
    let (folder, mut run) = counting_begun(ROWS);
    // From now on the second generation lives.
    assert!(kill(run.workers()[0], "KILL"));
    let show = || folder.weir(&["state", "show", STATE]).out;
    until("the next generation runs", || !show().contains("generation          1\n"));
    let dead = leave(&folder, 1);
    let mut times = 0;
    while !run.has_ended() {
        let swept = folder.weir(&["state", "gc", STATE]);
        swept.check(0, &[]);
        if times == 0 {
            let said = format!("the job is run by process {}, which cleans up", run.pid());
            assert!(swept.err.contains(&said), "{}", swept.err);
            assert!(dead.iter().all(|path| !path.exists()), "{}", swept.out);
        }
        times += 1;
    }
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    assert!(times >= 3, "{times}");
    assert!(run.stderr().contains("restarts 0"), "{}", run.stderr());
    assert_counted(&folder, ROWS);
}

#[test]
fn a_job_whose_manifest_is_gone_is_swept_too() {
    let folder = killed();
    std::fs::remove_file(folder.path().join("job.yaml")).unwrap();
    let left = leave(&folder, 1);
    std::fs::rename(folder.path().join("weir-data"), folder.path().join("moved")).unwrap();
    let base = folder.path().join("moved/counts/base");
    let known = std::fs::read(&base).unwrap();
    std::fs::remove_file(&base).unwrap();
    let state = "moved/counts/state";
    let swept = folder.weir(&["state", "gc", state]);
    swept
        .check(0, &["out is not looked at: it is relative to the manifest's folder, which --base"]);
    assert!(left[1].exists());
    std::fs::write(&base, known).unwrap();
    folder.weir(&["state", "gc", state]).check(0, &[]);
    assert!(!left[1].exists());

    let staged = folder.write(&left[1].display().to_string(), "abc");
    std::fs::remove_file(&base).unwrap();
    folder.weir(&["state", "gc", state, "--base", "."]).check(0, &[]);
    assert!(!staged.exists());
}
