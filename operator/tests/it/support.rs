//! What the process tests share: the binary, folders of their own, output compared as bags.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// Set for every process of a test, so that its descendants can be found.
pub(crate) const MARK: &str = "WEIR_TEST_MARK";
/// No job of these tests takes longer; one that does is stuck.
const JOB_SECONDS_MAX: u64 = 120;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").into()
}

/// A folder with a manifest, its data and its output; gone when dropped.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    mark: String,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mark = folder.path().display().to_string();
        Self { folder, mark }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("folder is made");
        }
        fs::write(&path, text).expect("file is written");
        path
    }

    /// `weir` with the data folder of this bench; standard input and output are not a terminal.
    pub(crate) fn weir(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env(MARK, &self.mark)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `weir` to its end.
    #[track_caller]
    pub(crate) fn finish(&self, arguments: &[&str]) -> Output {
        let mut child = self.weir(arguments).spawn().expect("weir starts");
        let pid = child.id();
        // The pipes are drained by the wait below; a stuck job is ended so that the test fails.
        let guard = Guard::new(pid, Duration::from_secs(JOB_SECONDS_MAX));
        let stdin = child.stdin.take();
        drop(stdin);
        let output = child.wait_with_output().expect("weir ends");
        assert!(!guard.disarm(), "weir {arguments:?} was stuck: {}", text(&output.stderr));
        output
    }

    /// Processes of this test that still run, by command line.
    pub(crate) fn survivors(&self) -> Vec<String> {
        let wanted = format!("{MARK}={}", self.mark);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc is readable").flatten() {
            let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
            if environ.split(|byte| *byte == 0).any(|item| item == wanted.as_bytes()) {
                let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
                found.push(format!("{} {}", entry.file_name().display(), line.replace('\0', " ")));
            }
        }
        found
    }

    /// Waits until no process of this test is left.
    #[track_caller]
    pub(crate) fn assert_nothing_runs(&self) {
        for _ in 0..100 {
            if self.survivors().is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("still running after 10 s: {:?}", self.survivors());
    }
}

/// Kills a process that is still there after a while.
struct Guard {
    disarm: std::sync::mpsc::Sender<()>,
    watcher: std::thread::JoinHandle<bool>,
}

impl Guard {
    fn new(pid: u32, limit: Duration) -> Self {
        let (disarm, armed) = std::sync::mpsc::channel();
        let watcher = std::thread::spawn(move || {
            let fired = armed.recv_timeout(limit).is_err();
            if fired {
                kill(pid);
            }
            fired
        });
        Self { disarm, watcher }
    }

    /// Whether the process had to be killed.
    fn disarm(self) -> bool {
        self.disarm.send(()).ok();
        self.watcher.join().expect("the watcher ends")
    }
}

/// `kill -9`, by process id.
pub(crate) fn kill(pid: u32) {
    Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status().ok();
}

/// The children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is readable").flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // pid (name) state parent …; the name may have blanks and parentheses.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let parent = rest.split(' ').nth(1).and_then(|parent| parent.parse::<u32>().ok());
        let state = rest.split(' ').next().unwrap_or_default();
        if parent == Some(pid) && state != "Z" {
            found.extend(entry.file_name().to_string_lossy().parse::<u32>());
        }
    }
    found.sort_unstable();
    found
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All rows of the committed files of a sink folder.
pub(crate) fn rows(folder: &Path) -> Vec<Value> {
    let mut rows = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return rows };
    for entry in entries.flatten() {
        if entry.path().extension().is_some_and(|suffix| suffix == "ndjson") {
            let text = fs::read_to_string(entry.path()).expect("output is UTF-8");
            rows.extend(
                text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a row")),
            );
        }
    }
    rows
}

pub(crate) fn expected(name: &str) -> Vec<Value> {
    let path = root().join("e2e/expected").join(name);
    let text = fs::read_to_string(path).expect("expected rows are committed");
    text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
}

/// Compares as bags, floats to 1e-9: rows are matched by all that is not a float.
#[track_caller]
pub(crate) fn assert_same_bag(actual: &[Value], expected: &[Value]) {
    let (actual, expected) = (bag(actual), bag(expected));
    for (key, wanted) in &expected {
        let Some(got) = actual.get(key) else { panic!("missing: {key} {wanted:?}") };
        assert_eq!(got.len(), wanted.len(), "{key} came {} times", got.len());
        for (got, wanted) in got.iter().flatten().zip(wanted.iter().flatten()) {
            let tolerance = 1e-9 * wanted.abs().max(1.0);
            assert!((got - wanted).abs() <= tolerance, "{key}: {got}, expected {wanted}");
        }
    }
    for key in actual.keys() {
        assert!(expected.contains_key(key), "not expected: {key}");
    }
}

/// Rows by their exact part; the floats of each beside it, in column order.
fn bag(rows: &[Value]) -> BTreeMap<String, Vec<Vec<f64>>> {
    let mut bag: BTreeMap<String, Vec<Vec<f64>>> = BTreeMap::new();
    for row in rows {
        let row = row.as_object().expect("a row is an object");
        let is_float = |name: &str| name.starts_with("mean");
        let exact: BTreeMap<_, _> = row.iter().filter(|(name, _)| !is_float(name)).collect();
        let floats = row
            .iter()
            .filter(|(name, _)| is_float(name))
            .map(|(_, value)| value.as_f64().expect("a float"))
            .collect();
        bag.entry(serde_json::to_string(&exact).expect("JSON")).or_default().push(floats);
    }
    for floats in bag.values_mut() {
        floats.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
    }
    bag
}
