//! The writers and what becomes of their pieces, on a faulty store with processes that die.
//!
//! Method of the simulation: a worker writes rows and cuts; a piece list is "recorded" once all of
//! a cut's pieces are staged; publishing, confirming and deleting follow. The store kills the
//! worker at its calls; the next generation publishes what was recorded and goes on from there. At
//! no time may a final name be visible that no record lists, and at the end every row is there once.

use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use object_store::ObjectStoreExt;
use weir_runtime::sim::store::{Fault, FaultRates, Operation, Planned, SimStore, SimStoreSettings};
use weir_runtime::sim::{self, Process};

use super::*;
use crate::objects::OneStore;
use crate::objects::retry::retry;
use crate::pipeline::spec::SinkFormat;
use crate::sink::publish::{committed_files, publish};

const FOLDER: &str = "out/delays";

fn rows(from: i64, count: i64) -> Rows {
    let seq: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + count));
    let batch = RecordBatch::try_from_iter_with_nullable([("seq", seq, true)]).unwrap();
    Rows { batch, times: None, origins: None, kinds: None }
}

fn writer_id(generation: u64, subtask: u32) -> WriterId {
    WriterId {
        step: "out".to_owned(),
        run: "ab12".to_owned(),
        generation: Generation(generation),
        subtask,
        part: 0,
        worker: "w1".to_owned(),
    }
}

fn files_sink() -> SinkSpec {
    SinkSpec::Files {
        uri: FOLDER.to_owned(),
        format: SinkFormat::Ndjson,
        store: StoreSpec::default(),
    }
}

fn open_on(
    store: &SimStore,
    spec: &SinkSpec,
    id: WriterId,
) -> Result<Box<dyn SinkWriter>, SinkError> {
    let store: Arc<dyn ObjectStore> = Arc::new(store.clone());
    let state = StateFolder { store: Arc::clone(&store), path: Path::from("state/1-ab12") };
    open(spec, id, &rows(0, 0).batch.schema(), false, &OneStore(store), &state)
}

fn folder(store: &SimStore) -> Location {
    Location { store: Arc::new(store.clone()), path: Path::from(FOLDER) }
}

/// What clean-up does once a record confirmed the commit.
async fn delete_staged(folder: &Location, pieces: &[Piece]) -> Result<(), SinkError> {
    for piece in pieces {
        let path = below(&folder.path, &piece.staged);
        let deleted = retry(|| folder.store.delete(&path)).await;
        match deleted {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(cause) => return Err(SinkError::store(&piece.step, &piece.staged, cause)),
        }
    }
    Ok(())
}

fn names(store: &SimStore) -> Vec<String> {
    store.names().into_iter().map(|(name, _)| name).collect()
}

fn text(store: &SimStore, name: &str) -> String {
    String::from_utf8(store.peek(&Path::from(name)).unwrap().to_vec()).unwrap()
}

#[test]
fn a_piece_is_staged_then_published_then_gone_from_staging() {
    sim::run(1, async {
        let store = SimStore::new(SimStoreSettings::instant(1));
        let mut writer = open_on(&store, &files_sink(), writer_id(2, 3)).unwrap();
        writer.write(&rows(1, 2)).await.unwrap();
        writer.write(&rows(3, 1)).await.unwrap();
        assert_eq!(store.calls(), 0);
        let staging = writer.cut(CheckpointId(5));
        // Rows after the cut belong to the next checkpoint.
        writer.write(&rows(9, 1)).await.unwrap();
        let pieces = staging.await.unwrap();
        let [piece] = &pieces[..] else { panic!("one piece") };
        assert_eq!(piece.r#final, "out-ab12-000000000005-2-3-0.ndjson");
        assert_eq!((piece.rows, piece.bytes, piece.folder.as_str()), (3, 30, FOLDER));
        assert_eq!(names(&store), [format!("{FOLDER}/{}", piece.staged)]);
        assert!(!piece.staged.ends_with(".ndjson"));

        for _ in 0..2 {
            publish(&folder(&store), piece).await.unwrap();
            let name = format!("{FOLDER}/out-ab12-000000000005-2-3-0.ndjson");
            assert_eq!(text(&store, &name), "{\"seq\":1}\n{\"seq\":2}\n{\"seq\":3}\n");
        }
        for _ in 0..2 {
            delete_staged(&folder(&store), &pieces).await.unwrap();
            publish(&folder(&store), piece).await.unwrap();
        }
        assert_eq!(names(&store), [format!("{FOLDER}/{}", piece.r#final)]);

        let next = writer.cut(CheckpointId(6)).await.unwrap();
        assert_eq!(
            (next[0].rows, next[0].r#final.as_str()),
            (1, "out-ab12-000000000006-2-3-0.ndjson")
        );
        assert_ne!(next[0].staged, piece.staged);
    });
}

#[test]
fn no_rows_no_piece_and_no_request() {
    sim::run(1, async {
        let store = SimStore::new(SimStoreSettings::instant(1));
        for spec in [files_sink(), SinkSpec::Blackhole, SinkSpec::Print { limit: None }] {
            let mut writer = open_on(&store, &spec, writer_id(1, 0)).unwrap();
            writer.write(&rows(0, 0)).await.unwrap();
            assert!(writer.cut(CheckpointId(1)).await.unwrap().is_empty());
        }
        let mut blackhole = open_on(&store, &SinkSpec::Blackhole, writer_id(1, 0)).unwrap();
        blackhole.write(&rows(0, 100)).await.unwrap();
        assert!(blackhole.cut(CheckpointId(1)).await.unwrap().is_empty());
        assert_eq!(store.calls(), 0);
    });
}

#[test]
fn two_writers_of_one_subtask_never_use_one_staged_name() {
    sim::run(1, async {
        let store = SimStore::new(SimStoreSettings::instant(1));
        for _ in 0..3 {
            let mut writer = open_on(&store, &files_sink(), writer_id(1, 0)).unwrap();
            writer.write(&rows(0, 1)).await.unwrap();
            writer.cut(CheckpointId(1)).await.unwrap();
        }
        assert_eq!(names(&store).len(), 3);
    });
}

#[test]
fn a_large_piece_goes_in_parts_and_is_whole() {
    sim::run(1, async {
        let store = SimStore::new(SimStoreSettings::instant(1));
        let long: ArrayRef = Arc::new(StringArray::from_iter_values(
            (0..40).map(|i| format!("{i}{}", "x".repeat(999_999))),
        ));
        let batch = RecordBatch::try_from_iter_with_nullable([("seq", long, true)]).unwrap();
        let objects = OneStore(Arc::new(store.clone()));
        let state = StateFolder { store: Arc::new(store.clone()), path: Path::default() };
        let schema = batch.schema();
        let mut writer =
            open(&files_sink(), writer_id(1, 0), &schema, false, &objects, &state).unwrap();
        writer.write(&Rows { batch, times: None, origins: None, kinds: None }).await.unwrap();
        let pieces = writer.cut(CheckpointId(1)).await.unwrap();
        assert_eq!(store.counts()[&Operation::PutPart], 5);
        publish(&folder(&store), &pieces[0]).await.unwrap();
        let written = text(&store, &format!("{FOLDER}/{}", pieces[0].r#final));
        assert_eq!((written.len() as u64, pieces[0].rows), (pieces[0].bytes, 40));
        for (i, line) in written.lines().enumerate() {
            assert!(line.starts_with(&format!("{{\"seq\":\"{i}x")) && line.ends_with("x\"}"));
        }
    });
}

#[test]
fn print_stages_among_the_state_objects_and_its_lines_are_read_back() {
    sim::run(1, async {
        let store = SimStore::new(SimStoreSettings::instant(1));
        let spec = SinkSpec::Print { limit: Some(3) };
        let mut writer = open_on(&store, &spec, writer_id(7, 0)).unwrap();
        writer.write(&rows(1, 2)).await.unwrap();
        let first = writer.cut(CheckpointId(1)).await.unwrap();
        writer.write(&rows(3, 5)).await.unwrap();
        let second = writer.cut(CheckpointId(2)).await.unwrap();
        let lines = |piece: &Piece| text(&store, &format!("state/1-ab12/objects/{}", piece.staged));
        assert_eq!(lines(&first[0]), "{\"seq\":1}\n{\"seq\":2}\n");
        assert_eq!((lines(&second[0]).as_str(), second[0].rows), ("{\"seq\":3}\n", 1));
        assert_eq!(first[0].folder, "");
        assert!(first[0].r#final < second[0].r#final);
        for name in names(&store) {
            let bare = name.strip_prefix("state/1-ab12/objects/").unwrap();
            let object = weir_state::names::ObjectName::parse(bare).unwrap();
            assert_eq!((object.generation, object.worker.as_str()), (Generation(7), "w1"));
        }
        assert!(writer.cut(CheckpointId(3)).await.unwrap().is_empty());
    });
}

#[test]
fn a_column_that_ndjson_has_no_form_for_is_refused_when_the_sink_is_opened() {
    let bad: ArrayRef = Arc::new(arrow::array::DurationSecondArray::from(vec![1]));
    let schema = RecordBatch::try_from_iter([("d", bad)]).unwrap().schema();
    let store: Arc<dyn ObjectStore> = Arc::new(SimStore::new(SimStoreSettings::instant(1)));
    let state = StateFolder { store: Arc::clone(&store), path: Path::default() };
    let Err(error) = open(&files_sink(), writer_id(1, 0), &schema, false, &OneStore(store), &state)
    else {
        panic!("durations have no form");
    };
    assert!(error.is_fatal());
    assert!(error.to_string().starts_with("out: column d is "), "{error}");
}

#[test]
fn a_full_disk_is_an_error_that_names_the_object() {
    sim::run(1, async {
        let store = SimStore::new(SimStoreSettings::instant(1));
        store.set_capacity_bytes(Some(10));
        let mut writer = open_on(&store, &files_sink(), writer_id(1, 0)).unwrap();
        writer.write(&rows(0, 5)).await.unwrap();
        let error = writer.cut(CheckpointId(1)).await.unwrap_err();
        assert!(!error.is_fatal());
        let text = error.to_string();
        assert!(text.starts_with("out: cannot write out/delays/_weir/ab12/g1/out-0-0-"), "{text}");
        assert_eq!(names(&store), Vec::<String>::new());
    });
}

#[test]
fn a_final_name_that_something_else_has_is_never_replaced() {
    sim::run(1, async {
        let store = SimStore::new(SimStoreSettings::instant(1));
        let mut writer = open_on(&store, &files_sink(), writer_id(1, 0)).unwrap();
        writer.write(&rows(0, 1)).await.unwrap();
        let pieces = writer.cut(CheckpointId(1)).await.unwrap();
        let path = Path::from(format!("{FOLDER}/{}", pieces[0].r#final));
        store.plant(&path, "mine");
        let error = publish(&folder(&store), &pieces[0]).await.unwrap_err();
        assert!(error.is_fatal());
        assert_eq!(
            error.to_string(),
            "out: out/delays/out-ab12-000000000001-1-0-0.ndjson exists with 4 bytes instead of 10: \
             something else wrote it; move it away"
        );
        assert_eq!(store.peek(&path).unwrap(), "mine");
    });
}

#[test]
fn only_files_of_the_step_count_as_committed() {
    sim::run(1, async {
        let store = SimStore::new(SimStoreSettings::instant(1));
        for name in [
            "out-b-000000000002-1-0-0.ndjson",
            "out-a-000000000010-1-0-0.ndjson",
            "other-a-000000000001-1-0-0.ndjson",
            "out-a-1-1-0-0.ndjson",
            "out.ndjson",
            "below/out-a-000000000001-1-0-0.ndjson",
            "_weir/a/g1/other-0-0-ff-0.staged",
        ] {
            store.plant(&Path::from(format!("{FOLDER}/{name}")), "x");
        }
        let files = committed_files(&folder(&store), "out").await.unwrap();
        let files: Vec<_> = files.iter().map(ToString::to_string).collect();
        assert_eq!(files, ["out-a-000000000010-1-0-0.ndjson", "out-b-000000000002-1-0-0.ndjson"]);
    });
}

/// What a job's journal would hold.
#[derive(Debug, Default)]
struct Journal {
    checkpoint: u64,
    /// Rows covered by the last checkpoint.
    rows: i64,
    listed: Vec<Piece>,
    unconfirmed: Vec<Piece>,
    deletable: Vec<Piece>,
}

const ROWS: i64 = 60;

/// One generation of a worker: commits what is listed, then goes on from the last checkpoint.
async fn work(
    store: SimStore,
    generation: u64,
    journal: Arc<Mutex<Journal>>,
) -> Result<(), SinkError> {
    let mut writer = open_on(&store, &files_sink(), writer_id(generation, 0))?;
    let mut next = journal.lock().unwrap().rows;
    loop {
        let unconfirmed = journal.lock().unwrap().unconfirmed.clone();
        for piece in &unconfirmed {
            publish(&folder(&store), piece).await?;
        }
        let deletable = std::mem::take(&mut journal.lock().unwrap().deletable);
        delete_staged(&folder(&store), &deletable).await?;
        if next == ROWS {
            // The last record confirms what is left.
            let mut journal = journal.lock().unwrap();
            let confirmed = std::mem::take(&mut journal.unconfirmed);
            journal.deletable.extend(confirmed);
            return Ok(());
        }
        for _ in 0..4 {
            writer.write(&rows(next, 5)).await?;
            next += 5;
        }
        let checkpoint = journal.lock().unwrap().checkpoint + 1;
        let pieces = writer.cut(CheckpointId(checkpoint)).await?;
        let mut journal = journal.lock().unwrap();
        // The record is written: what was published before is confirmed by it.
        let confirmed = std::mem::replace(&mut journal.unconfirmed, pieces.clone());
        journal.deletable.extend(confirmed);
        journal.listed.extend(pieces);
        (journal.checkpoint, journal.rows) = (checkpoint, next);
    }
}

fn only_listed_is_visible(store: &SimStore, journal: &Mutex<Journal>) {
    let listed: Vec<_> = journal.lock().unwrap().listed.iter().map(|p| p.r#final.clone()).collect();
    for name in names(store).iter().filter(|name| name.ends_with(".ndjson")) {
        let name = name.rsplit('/').next().unwrap().to_owned();
        assert!(listed.contains(&name), "{name} is visible and in no record");
    }
}

#[test]
fn every_row_is_committed_once_whatever_dies() {
    let mut killed = 0;
    for seed in 0..150 {
        sim::run(seed, async {
            let latency = std::time::Duration::from_millis(1);
            let settings = SimStoreSettings::with_latency(seed, latency, latency * 20);
            let store = SimStore::new(settings);
            store.set_faults(FaultRates {
                error_before: 60,
                lost_answer: 60,
                late: 20,
                crash_before: 60,
                crash_after: 60,
                ..Default::default()
            });
            let journal = Arc::new(Mutex::new(Journal::default()));
            for generation in 1.. {
                if generation == 30 {
                    store.set_faults(FaultRates::default());
                }
                let process = Process::new(format!("g{generation}"), 0);
                let work = work(store.clone(), generation, Arc::clone(&journal));
                let ended = process.spawn(work).await;
                only_listed_is_visible(&store, &journal);
                match ended {
                    Ok(Ok(())) => break,
                    Ok(Err(error)) => assert!(!error.is_fatal(), "{error}"),
                    Err(_) => killed += 1,
                }
            }
            // Puts of the dead that land late.
            weir_runtime::clock::sleep(FaultRates::LATE_MAX * 2).await;
            only_listed_is_visible(&store, &journal);
            let committed = committed_files_healed(&store).await;
            let seqs: Vec<i64> = committed.iter().flat_map(|name| seqs(&store, name)).collect();
            assert_eq!(seqs, (0..ROWS).collect::<Vec<_>>(), "seed {seed}");
        });
    }
    assert!(killed > 100, "only {killed} workers died: the test shows little");
}

async fn committed_files_healed(store: &SimStore) -> Vec<String> {
    store.set_faults(FaultRates::default());
    let files = committed_files(&folder(store), "out").await.unwrap();
    files.iter().map(|file| format!("{FOLDER}/{file}")).collect()
}

fn seqs(store: &SimStore, name: &str) -> Vec<i64> {
    let line = |line: &str| line[7..line.len() - 1].parse().unwrap();
    text(store, name).lines().map(line).collect()
}

#[test]
fn exists_without_landing_is_looked_into() {
    sim::run(1, async {
        let store = SimStore::new(SimStoreSettings::instant(1));
        let mut writer = open_on(&store, &files_sink(), writer_id(1, 0)).unwrap();
        writer.write(&rows(0, 1)).await.unwrap();
        let pieces = writer.cut(CheckpointId(1)).await.unwrap();
        // The copy happens, its answer is lost, and the next attempt finds it there.
        store.plan(Planned {
            operation: Some(Operation::Copy),
            path_part: String::new(),
            nth: 1,
            fault: Fault::LostAnswer,
        });
        publish(&folder(&store), &pieces[0]).await.unwrap();
        assert_eq!(store.counts()[&Operation::Copy], 2);
        assert_eq!(store.counts()[&Operation::Head], 1);
    });
}

#[tokio::test]
async fn on_a_disk_nothing_but_the_committed_file_stays() {
    use crate::objects::RealObjects;
    let base = tempfile::tempdir().unwrap();
    let objects = RealObjects { base_folder: base.path().to_owned() };
    let store: Arc<dyn ObjectStore> = Arc::new(SimStore::new(SimStoreSettings::instant(1)));
    let state = StateFolder { store, path: Path::default() };
    let schema = rows(0, 0).batch.schema();
    let mut writer =
        open(&files_sink(), writer_id(1, 0), &schema, false, &objects, &state).unwrap();
    writer.write(&rows(0, 3)).await.unwrap();
    let pieces = writer.cut(CheckpointId(1)).await.unwrap();
    // Opened anew, as a coordinator and another worker would: the folder exists by now.
    let folder = open_folder("out", FOLDER, &StoreSpec::default(), &objects).unwrap();
    assert!(committed_files(&folder, "out").await.unwrap().is_empty());
    publish(&folder, &pieces[0]).await.unwrap();
    publish(&folder, &pieces[0]).await.unwrap();
    delete_staged(&folder, &pieces).await.unwrap();
    publish(&folder, &pieces[0]).await.unwrap();
    let on_disk: Vec<_> = std::fs::read_dir(base.path().join(FOLDER)).unwrap().flatten().collect();
    assert_eq!(on_disk.len(), 1, "{on_disk:?}");
    let text = std::fs::read_to_string(on_disk[0].path()).unwrap();
    assert_eq!(text, "{\"seq\":0}\n{\"seq\":1}\n{\"seq\":2}\n");
    assert_eq!(committed_files(&folder, "out").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_folder_that_is_not_there_has_no_files() {
    let base = tempfile::tempdir().unwrap();
    let objects = crate::objects::RealObjects { base_folder: base.path().to_owned() };
    let folder = open_folder("out", "a/b/c", &StoreSpec::default(), &objects).unwrap();
    assert!(committed_files(&folder, "out").await.unwrap().is_empty());
}

#[test]
fn a_uri_that_leads_nowhere_is_named() {
    let objects = crate::objects::RealObjects { base_folder: "/".into() };
    let error = open_folder("out", "gs://b/x", &StoreSpec::default(), &objects).unwrap_err();
    assert_eq!(error.to_string(), "out: gs://b/x: this kind of store is not built yet");
}

/// docs/design/0007: what version 1 stored must be read for ever.
#[test]
fn a_stored_piece_of_version_1_is_read() {
    use prost::Message as _;

    let bytes = include_bytes!("../../testdata/sink_piece_v1.bin");
    let piece = Piece::decode(&bytes[..]).unwrap();
    assert_eq!((piece.step.as_str(), piece.folder.as_str()), ("out", "out/delays"));
    assert_eq!((piece.rows, piece.bytes), (42, 4711));
    let staged = weir_state::names::staged_by(&piece.staged).unwrap();
    assert_eq!(staged, ("ab12", Generation(3)));
    let file = weir_state::names::SinkFile::parse(&piece.r#final).unwrap();
    assert_eq!((file.checkpoint, file.subtask, file.part), (CheckpointId(17), 4, 1));
    assert_eq!(piece.encode_to_vec(), bytes);
}

#[tokio::test]
async fn parquet_is_staged_and_published_as_any_piece() {
    use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    let store = SimStore::new(SimStoreSettings::instant(1));
    let spec = SinkSpec::Files {
        uri: FOLDER.to_owned(),
        format: SinkFormat::Parquet,
        store: StoreSpec::default(),
    };
    let mut writer = open_on(&store, &spec, writer_id(1, 0)).unwrap();
    for from in [0, 700] {
        writer.write(&rows(from, 700)).await.unwrap();
    }
    let pieces = writer.cut(CheckpointId(3)).await.unwrap();
    assert_eq!(pieces[0].r#final, "out-ab12-000000000003-1-0-0.parquet");
    assert_eq!((pieces.len(), pieces[0].rows), (1, 1_400));
    assert!(pieces[0].staged.ends_with(".staged"));
    assert!(writer.cut(CheckpointId(4)).await.unwrap().is_empty(), "no rows, no file");
    let objects: Arc<dyn ObjectStore> = Arc::new(store.clone());
    let folder = Location { store: Arc::clone(&objects), path: Path::from(FOLDER) };
    publish(&folder, &pieces[0]).await.unwrap();
    let file = objects.get(&folder.path.clone().join(&*pieces[0].r#final)).await.unwrap();
    let bytes = file.bytes().await.unwrap();
    assert_eq!(bytes.len() as u64, pieces[0].bytes);
    let read = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    let count: usize = read.map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(count, 1_400);
}
