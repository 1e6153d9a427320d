//! Stores that refuse, are full, damaged or silent.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use xxhash_rust::xxh3::xxh3_64;

use super::s3_stub::{ANY_PORT, Behaviour, Stub};
use super::{fails, job, said};
use crate::command::{Done, Folder, counting, kill, until};

const KEYS: &str =
    "- {id: k, source: {generate: {keys: {count: 10, distinct: 3, valueBytes: 4}}}}\n";
const PRINT: &str = "- {id: out, from: k, sink: {print: {}}}\n";

#[test]
fn a_state_folder_that_cannot_be_made_is_refused_by_name() {
    let folder = Folder::new();
    folder.write("job.yaml", &job("job", &format!("{KEYS}{PRINT}")));
    folder.write("file", "");
    let made = "no folder can be made there, name another";
    for (uri, what) in [
        ("file", format!("{made}: File exists (os error 17)")),
        ("file/below", format!("{made}: Not a directory (os error 20)")),
        ("/proc/weir", format!("{made}: No such file or directory (os error 2)")),
        ("ftp://a/b", "known are plain paths, file://, s3:// and memory://".to_owned()),
        ("gs://a/b", "this kind of store is not built yet".to_owned()),
    ] {
        let sentence = format!("error: {uri:?} cannot be opened: {what}");
        fails(&folder, &["run", "job.yaml", "--state", uri], 2, &[&sentence]);
    }
}

#[test]
fn the_state_of_another_job_is_refused() {
    let folder = Folder::new();
    folder.write("one.yaml", &counting("one", 10, None));
    folder.weir(&["run", "one.yaml", "--state", "shared"]).check(0, &["finished"]);
    folder.write("two.yaml", &counting("two", 10, None).replace("uri: out", "uri: other"));
    let two = folder.weir(&["run", "two.yaml", "--state", "shared"]);
    two.check(2, &["holds the state of job \"one\", not of \"two\""]);
    assert_eq!(said(&two).len(), 1, "{}", two.err);
    assert!(!folder.path().join("other").exists());
}

/// A server on this machine that speaks S3, and `weir run` against it.
struct S3 {
    _runtime: tokio::runtime::Runtime,
    stub: Stub,
}

impl S3 {
    fn start(behaviour: Behaviour, address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let stub = runtime.block_on(Stub::start_at(address, behaviour));
        Self { _runtime: runtime, stub }
    }
}

/// `weir` with the usual environment variables for an S3 server at `endpoint`.
fn with_s3(folder: &Folder, args: &[&str], endpoint: &str) -> Command {
    let mut command = folder.command(args);
    command
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "id")
        .env("AWS_SECRET_ACCESS_KEY", "secret");
    command
}

fn done(command: &mut Command) -> Done {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn on_s3(behaviour: Behaviour) -> (Done, S3) {
    let folder = Folder::new();
    folder.write("job.yaml", &job("job", &format!("{KEYS}{PRINT}")));
    let s3 = S3::start(behaviour, ANY_PORT);
    let args = ["run", "job.yaml", "--state", "s3://bucket/job"];
    (done(&mut with_s3(&folder, &args, &s3.stub.endpoint())), s3)
}

#[test]
fn a_job_keeps_its_state_in_s3() {
    let (done, s3) = on_s3(Behaviour::Good);
    done.check(0, &["job job finished: rows in 10, rows out 10"]);
    assert_eq!(done.out.lines().count(), 10);
    assert!(
        s3.stub.requests().iter().any(|request| request.starts_with("PUT /bucket/job/claims/1"))
    );
}

#[test]
fn a_store_that_ignores_create_if_absent_is_refused() {
    for behaviour in [Behaviour::IgnoresCondition, Behaviour::RefusesCondition] {
        let (done, s3) = on_s3(behaviour);
        let sentence = "error: spec.state.uri: the state cannot be used: the store of s3://bucket/job does not honour create-if-absent (two creates of one name must not both succeed), so it cannot hold a job's state; choose a store that does";
        assert_eq!(said(&done), [sentence], "{behaviour:?}");
        assert_eq!(done.code, Some(2));
        let wrote =
            |request: &String| request.starts_with("PUT") && !request.contains("/claims/probe-");
        assert!(!s3.stub.requests().iter().any(wrote), "{:?}", s3.stub.requests());
    }
}

#[test]
fn a_store_that_denies_is_refused() {
    let (done, _s3) = on_s3(Behaviour::Denies);
    done.check(2, &["error: cannot list s3://bucket/job/claims: permission denied; give this user the right, or choose another folder"]);
    assert_eq!(said(&done).len(), 1, "{}", done.err);
}

#[test]
fn a_source_that_does_not_answer_is_waited_for_and_shown() {
    let folder = Folder::new();
    let steps = "- {id: p, source: {files: {uri: s3://bucket/p.parquet}}}
         - {id: q, from: p, filter: nobody knows}
         - {id: k, source: {generate: {keys: {count: 10}}}}
         - {id: out, from: q, sink: {print: {}}}
         - {id: gone, from: k, sink: {blackhole: {}}}";
    folder.write("job.yaml", &job("job", steps));
    let wrong = steps.replace("from: k, sink", "from: k, from: k, sink").replace(
        "- {id: gone, from: k, from: k",
        "- {id: f, from: k, filter: sqe > 1}\n- {id: gone, from: f",
    );
    folder.write("wrong.yaml", &job("job", &wrong));
    // A port at which nobody listens.
    let address = TcpListener::bind(ANY_PORT).unwrap().local_addr().unwrap();
    let endpoint = format!("http://{address}");

    let validated = done(&mut with_s3(&folder, &["validate", "job.yaml", "wrong.yaml"], &endpoint));
    assert_eq!(validated.code, Some(2));
    let lines: Vec<&str> = validated.err.lines().collect();
    let not_checked =
        "not checked: spec.pipeline[0].source: p: cannot read s3://bucket/p.parquet: ";
    assert!(lines[0].starts_with(&format!("job.yaml: {not_checked}")), "{}", validated.err);
    assert!(lines[0].contains("Connection refused"), "{}", validated.err);
    // The others are told all the same.
    let told = "wrong.yaml: spec.pipeline[4].filter: there is no column `sqe`; did you mean `seq`?";
    assert_eq!(lines[1], told);
    assert!(lines[2].starts_with(&format!("wrong.yaml: {not_checked}")), "{}", validated.err);
    assert_eq!(lines.len(), 3);

    let start = || {
        let err = std::fs::File::create(folder.path().join("err.log")).unwrap();
        with_s3(&folder, &["run", "job.yaml"], &endpoint)
            .stderr(err)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let stderr = || std::fs::read_to_string(folder.path().join("err.log")).unwrap();
    let shown = "spec.pipeline[0].source: the source is unreachable: p: cannot read s3://bucket/p.parquet: ";
    let mut waiting = start();
    until("it is shown", || stderr().contains("; tried again in 1 s\n"));
    assert!(stderr().starts_with(shown), "{}", stderr());
    assert!(kill(waiting.id(), "INT"));
    assert_eq!(waiting.wait().unwrap().code(), Some(130));
    let last = "stopped before the job began; the same command begins it\n";
    assert!(stderr().ends_with(last), "{}", stderr());

    // As soon as the store answers it goes on: what is missing there is bad input.
    let mut waiting = start();
    until("it is shown", || stderr().contains("; tried again in 1 s\n"));
    let _s3 = S3::start(Behaviour::Good, address);
    assert_eq!(waiting.wait().unwrap().code(), Some(2), "{}", stderr());
    let last = "job.yaml: spec.pipeline[0].source: p: s3://bucket/p.parquet: not found\n";
    assert!(stderr().ends_with(last), "{}", stderr());
}

/// A job that was suspended with state, its folder, and where its state lies.
fn suspended() -> (Folder, PathBuf) {
    let folder = Folder::new();
    let manifest = counting("counts", 20_000, Some(10_000)).replace("replicas: 2", "replicas: 1");
    folder.write("job.yaml", &manifest.replace("tumble: 1s", "tumble: 1h"));
    let mut first = folder.start(&["run", "job.yaml"]);
    let state = folder.path().join("weir-data/counts/state");
    until("state is stored", || !below(&state, "table").is_empty());
    first.signal("INT");
    assert_eq!(first.wait(), Some(130), "{}", first.stderr());
    (folder, state)
}

/// Files whose names end in `.suffix` (or have no suffix) below the run's folder.
fn below(state: &std::path::Path, suffix: &str) -> Vec<PathBuf> {
    let list = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let runs = list(state.to_owned()).filter(|run| run.file_name() != "claims");
    let kind = if suffix.is_empty() { "journal" } else { "objects" };
    let files = runs.flat_map(|run| list(run.path().join(kind))).map(|file| file.path());
    let of_kind =
        |path: &PathBuf| path.extension().map_or("", |end| end.to_str().unwrap()) == suffix;
    let mut files: Vec<PathBuf> = files.filter(of_kind).collect();
    files.sort();
    files
}

fn finishes_right(folder: &Folder) {
    folder.weir(&["run", "job.yaml"]).check(0, &["job counts finished"]);
    let rows: usize = folder.rows("out").values().sum();
    assert_eq!(rows, 50, "one row for each key");
    let total = |row: &String| {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        row["rows"].as_u64().unwrap()
    };
    assert_eq!(folder.rows("out").keys().map(total).sum::<u64>(), 20_000);
}

#[test]
fn a_damaged_table_file_is_named_and_the_job_goes_on_once_it_is_whole() {
    let (folder, state) = suspended();
    let tables = below(&state, "table");
    let whole: Vec<Vec<u8>> = tables.iter().map(|table| std::fs::read(table).unwrap()).collect();
    for (table, bytes) in tables.iter().zip(&whole) {
        let mut bytes = bytes.clone();
        bytes[20] ^= 1;
        std::fs::write(table, bytes).unwrap();
    }
    let failed = folder.weir(&["run", "job.yaml"]);
    assert_eq!(failed.code, Some(1), "{}", failed.err);
    let sentence = *said(&failed).last().unwrap();
    let object = |table: &PathBuf| {
        let name = table.strip_prefix(&state).unwrap().display().to_string();
        sentence
            .contains(&format!(": state object {name} is damaged at byte 0: expected checksum "))
    };
    assert!(sentence.starts_with("error: job counts failed: counts: read "), "{sentence}");
    assert!(tables.iter().any(object), "{sentence}");
    assert!(sentence.contains(", found checksum "), "{sentence}");
    assert!(folder.files("out").is_empty(), "nothing was made from damaged state");

    for (table, bytes) in tables.iter().zip(&whole) {
        std::fs::write(table, bytes).unwrap();
    }
    finishes_right(&folder);
}

#[test]
fn a_damaged_journal_and_one_of_a_newer_version_are_refused() {
    let (folder, state) = suspended();
    let record = below(&state, "").pop().unwrap();
    let name = record.strip_prefix(&state).unwrap().display().to_string();
    let whole = std::fs::read(&record).unwrap();

    let mut damaged = whole.clone();
    let last = damaged.len() - 9;
    damaged[last] ^= 1;
    std::fs::write(&record, damaged).unwrap();
    let refused = folder.weir(&["run", "job.yaml"]);
    refused.check(2, &[&name, "is damaged at byte "]);
    assert_eq!(said(&refused).len(), 1, "{}", refused.err);

    let mut newer = whole[..whole.len() - 8].to_vec();
    newer[8] = 2;
    newer.extend(xxh3_64(&newer).to_le_bytes());
    std::fs::write(&record, newer).unwrap();
    let sentence =
        format!("{name} has format version 2, this Weir reads up to 1; use a newer Weir");
    let refused = folder.weir(&["run", "job.yaml"]);
    refused.check(2, &[&sentence]);
    assert_eq!(said(&refused).len(), 1, "{}", refused.err);
    let shown = folder.weir(&["state", "show", "weir-data/counts/state"]);
    shown.check(2, &[&sentence]);

    std::fs::write(&record, whole).unwrap();
    finishes_right(&folder);
}

/// A file system of half a MiB in a name space of its own. Where that is not permitted, the
/// simulated store's tests of a full disk stand alone.
#[test]
fn a_full_disk_is_named_and_the_job_fails_within_its_restarts() {
    let folder = Folder::new();
    let steps = "- {id: k, source: {generate: {keys: {count: 50000, distinct: 50000, valueBytes: 10}}}}
         - {id: agg, from: k, aggregate: {key: [key], window: {tumble: 1h}, values: [count(*) as n]}}";
    let policy = "spec:\n  checkpoint: {interval: 100ms}\n  failover: {restarts: 1}\n";
    let manifest = |sink: &str| {
        let sink = format!("\n- {{id: out, from: agg, sink: {{{sink}}}}}");
        job("full", &format!("{steps}{sink}")).replace("spec:\n", policy)
    };
    folder.write("state.yaml", &manifest("blackhole: {}"));
    folder.write("sink.yaml", &manifest("files: {uri: small/out}"));
    std::fs::create_dir(folder.path().join("small")).unwrap();
    let script = "mount -t tmpfs -o size=512k tmpfs small || exit 77; shift; exec \"$@\"";
    let in_small = |args: &[&str]| {
        let weir = folder.command(args);
        let mut command = Command::new("unshare");
        command.args(["-Urm", "sh", "-c", script, "sh", "--"]).arg(weir.get_program());
        command.args(weir.get_args()).current_dir(folder.path()).stdin(Stdio::null());
        done(&mut command)
    };
    let args = ["run", "state.yaml", "--state", "small/state"];
    let state = in_small(&args);
    if state.code == Some(77) || state.err.contains("unshare") {
        eprintln!("no file system of one's own here: {}", state.err);
        return;
    }
    let why = "No space left on device (os error 28) (given up after 1 restarts within 600s)";
    // The worker's table file or the coordinator's record: whichever meets the full disk first.
    let full = "No space left on device (os error 28)";
    state.check(1, &["error: job full failed: ", "cannot write ", full]);
    let sink = in_small(&["run", "sink.yaml", "--data", "data"]);
    sink.check(1, &["error: job full failed: out: cannot write small/out/_weir/", why]);
    for done in [state, sink] {
        let last = *said(&done).last().unwrap();
        assert_eq!(last.matches("No space left on device").count(), 1, "said once: {last}");
    }
}
