//! A folder of a test's own, and `weir` run in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use weir_runtime::clock::Instant;

/// No job here takes longer; a test that waits so long has failed.
const DONE_MAX: Duration = Duration::from_secs(120);

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
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

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
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// Runs `weir` to its end.
    pub(crate) fn weir(&self, args: &[&str]) -> Done {
        Done::of(self.command(args).output().unwrap())
    }

    /// Starts `weir`; its standard error goes to a file `err`.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let err = std::fs::File::create(self.path().join("err")).unwrap();
        let child = self.command(args).stdout(Stdio::null()).stderr(err).spawn().unwrap();
        Running { child, err: self.path().join("err") }
    }

    /// All lines of the committed files in a sink's folder, with how often each comes.
    pub(crate) fn rows(&self, sink: &str) -> BTreeMap<String, usize> {
        let mut rows = BTreeMap::new();
        for file in self.files(sink) {
            for line in std::fs::read_to_string(file).unwrap().lines() {
                *rows.entry(line.to_owned()).or_default() += 1;
            }
        }
        rows
    }

    /// The committed files of a sink's folder.
    pub(crate) fn files(&self, sink: &str) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.path().join(sink)) else { return Vec::new() };
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
        std::fs::read_to_string(&self.err).unwrap()
    }

    /// Process ids of its workers.
    pub(crate) fn workers(&self) -> Vec<u32> {
        children(self.pid())
    }

    pub(crate) fn signal(&self, signal: &str) {
        kill(self.pid(), signal);
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
    let Ok(threads) = std::fs::read_dir(task) else { return Vec::new() };
    let children = threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    children.flat_map(|text| numbers(&text)).collect()
}

fn numbers(text: &str) -> Vec<u32> {
    text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// Whether a process lives (one that has ended and was not waited for does not).
pub(crate) fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

pub(crate) fn kill(pid: u32, signal: &str) {
    let status = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
    assert!(status.unwrap().success(), "kill -{signal} {pid}");
}

/// Waits until something holds.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "other processes have no simulated clock")]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DONE_MAX;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
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
