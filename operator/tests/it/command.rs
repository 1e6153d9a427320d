//! A folder of a test's own, and `weir` run in it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// No job here takes longer; a test that waits so long has failed.
const DONE_MAX: Duration = Duration::from_secs(120);
/// Orphans end within 10 s.
const ORPHAN_MAX: Duration = Duration::from_secs(12);
/// Set for every process of a test, so that its descendants can be found.
const MARK: &str = "WEIR_TEST_MARK";

/// A folder with manifests, inputs and outputs.
pub(crate) struct Folder {
    folder: tempfile::TempDir,
}

/// What a command left behind.
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    /// Checks the exit status and that standard error has all of `parts`.
    #[track_caller]
    pub(crate) fn check(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}\n{}", self.err, self.out);
        for part in parts {
            assert!(self.err.contains(part), "no {part:?} in:\n{}", self.err);
        }
    }
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null()).env(MARK, self.path());
        command
    }

    /// Runs `weir` to its end.
    #[track_caller]
    pub(crate) fn weir(&self, args: &[&str]) -> Done {
        let out = self.path().join("out.log");
        let mut running = self.start_to(args, File::create(&out).unwrap().into());
        let code = running.wait();
        Done { code, out: fs::read_to_string(out).unwrap(), err: running.stderr() }
    }

    /// Starts `weir`; its standard error goes to a file of its own.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        self.start_to(args, Stdio::null())
    }

    fn start_to(&self, args: &[&str], out: Stdio) -> Running {
        let mut numbers = 1..;
        let path = numbers.find_map(|number| {
            let path = self.path().join(format!("err-{number}.log"));
            (!path.exists()).then_some(path)
        });
        let path = path.expect("numbers have no end");
        let err = File::create(&path).unwrap();
        let child = self.command(args).stdout(out).stderr(err).spawn().unwrap();
        Running { child, err: path }
    }

    /// Waits until no process of this test is left.
    #[track_caller]
    pub(crate) fn assert_nothing_runs(&self) {
        within(ORPHAN_MAX, "nothing runs any more", || self.survivors().is_empty());
    }

    /// Processes of this test that still run.
    fn survivors(&self) -> Vec<u32> {
        let wanted = format!("{MARK}={}", self.path().display());
        let is_ours = |pid: &u32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|item| item == wanted.as_bytes())
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(is_ours).collect()
    }

    /// All lines of the committed files in a sink's folder, with how often each comes.
    pub(crate) fn rows(&self, sink: &str) -> BTreeMap<String, usize> {
        let mut rows = BTreeMap::new();
        for file in self.files(sink) {
            for line in fs::read_to_string(file).unwrap().lines() {
                *rows.entry(line.to_owned()).or_default() += 1;
            }
        }
        rows
    }

    /// The committed files of a sink's folder.
    pub(crate) fn files(&self, sink: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path().join(sink)) else { return Vec::new() };
        let files = entries.map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|suffix| suffix == "ndjson")).collect()
    }
}

/// A `weir` that runs.
pub(crate) struct Running {
    child: Child,
    err: PathBuf,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    /// Process ids of its workers.
    pub(crate) fn workers(&self) -> Vec<u32> {
        children(self.pid())
    }

    pub(crate) fn signal(&self, signal: &str) {
        assert!(kill(self.pid(), signal), "kill -{signal} {}", self.pid());
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end; gives the exit status (none: a signal ended it).
    #[track_caller]
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let mut code = None;
        until("the command ends", || {
            let status = self.child.try_wait().unwrap();
            code = status.map(|status| status.code());
            code.is_some()
        });
        code.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes whose parent is `pid`.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let task = format!("/proc/{pid}/task");
    let Ok(threads) = fs::read_dir(task) else { return Vec::new() };
    let children = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    children.flat_map(|text| numbers(&text)).collect()
}

fn numbers(text: &str) -> Vec<u32> {
    text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// Sends a signal; whether the process was there.
pub(crate) fn kill(pid: u32, signal: &str) -> bool {
    let mut kill = Command::new("kill");
    kill.args([&format!("-{signal}"), &pid.to_string()]).stderr(Stdio::null());
    kill.status().unwrap().success()
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn until(what: &str, holds: impl FnMut() -> bool) {
    within(DONE_MAX, what, holds);
}

#[track_caller]
fn within(time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let step = Duration::from_millis(5);
    for _ in 0..time.as_millis() / step.as_millis() {
        if holds() {
            return;
        }
        sleep(step);
    }
    panic!("waited in vain until {what}");
}

#[expect(clippy::disallowed_methods, reason = "other processes have no simulated clock")]
pub(crate) fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// Begins a job of `counting` that takes a few seconds, and waits until it has written something.
pub(crate) fn counting_begun(rows: u64) -> (Folder, Running) {
    let folder = Folder::new();
    folder.write("job.yaml", &counting("counts", rows, Some(10_000)));
    let run = folder.start(&["run", "job.yaml"]);
    until("output is committed", || !folder.files("out").is_empty());
    (folder, run)
}

/// The output of a job of `counting` is that of a run that nothing disturbed.
#[track_caller]
pub(crate) fn assert_counted(folder: &Folder, rows: u64) {
    let whole = Folder::new();
    whole.write("job.yaml", &counting("counts", rows, None));
    whole.weir(&["run", "job.yaml"]).check(0, &["finished"]);
    assert_eq!(folder.rows("out"), whole.rows("out"));
}

/// A job that counts generated keys by minute into the folder `out`.
pub(crate) fn counting(name: &str, count: u64, rate: Option<u64>) -> String {
    let rate = rate.map(|rate| format!(", rate: {rate}")).unwrap_or_default();
    format!(
        "apiVersion: weir.dev/v1alpha1
kind: StatefulJob
metadata:
  name: {name}
spec:
  replicas: 2
  checkpoint:
    interval: 200ms
  pipeline:
    - id: events
      source:
        generate: {{keys: {{count: {count}, distinct: 50, valueBytes: 10}}{rate}}}
    - id: counts
      from: events
      aggregate:
        key: [key]
        window: {{tumble: 1s}}
        values: [count(*) as rows, sum(seq) as total]
    - id: out
      from: counts
      sink:
        files: {{uri: out, format: ndjson}}
"
    )
}
