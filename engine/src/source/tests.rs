//! Sources as a whole: plans, parquet in all compressions and from any row, objects that are
//! missing or change, and every sentence about bad input; `folders.rs`: folders and globs.

use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression, GzipLevel, ZstdLevel};
use ::parquet::file::properties::WriterProperties;
use arrow::array::{
    ArrayRef, AsArray, Float32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use weir_runtime::sim;
use weir_runtime::sim::store::{FaultRates, SimStore, SimStoreSettings};

use super::*;
use crate::objects::{OneStore, RealObjects};
use crate::pipeline::spec::{EventTimeSpec, StoreSpec};

mod folders;

fn files(uri: &str) -> SourceSpec {
    let kind = SourceKind::Files {
        uri: uri.to_owned(),
        format: None,
        schema: None,
        store: StoreSpec::default(),
    };
    SourceSpec { kind, rate: None, event_time: None }
}

fn with_time(mut spec: SourceSpec, column: &str) -> SourceSpec {
    spec.event_time = Some(EventTimeSpec { column: Some(column.to_owned()), delay_ms: 0 });
    spec
}

/// 1,000 rows in row groups of 300, with pages of 50: seq, name, t (microseconds), ratio (float32).
fn parquet_bytes(compression: Compression, null_time_at: Option<i64>) -> Vec<u8> {
    let rows = 0..1000_i64;
    let columns: [(&str, ArrayRef); 4] = [
        ("seq", Arc::new(Int64Array::from_iter_values(rows.clone()))),
        (
            "name",
            Arc::new(StringArray::from_iter_values(rows.clone().map(|i| format!("n{}", i % 7)))),
        ),
        (
            "t",
            Arc::new(TimestampMicrosecondArray::from_iter(
                rows.clone().map(|i| (Some(i) != null_time_at).then_some(i * 1000 + 999)),
            )),
        ),
        ("ratio", Arc::new(rows.map(|i| (i % 3 != 0).then_some(0.5)).collect::<Float32Array>())),
    ];
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(300))
        .set_data_page_row_count_limit(50)
        .set_write_batch_size(50)
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

async fn stored(name: &str, bytes: Vec<u8>) -> (Arc<InMemory>, OneStore) {
    let store = Arc::new(InMemory::new());
    store.put(&Path::from(name), bytes.into()).await.unwrap();
    (Arc::clone(&store), OneStore(store))
}

async fn open(spec: &SourceSpec, objects: &OneStore) -> Source {
    let plan = plan("in", spec, objects).await.unwrap();
    Source::new(spec, &plan, 3, objects).unwrap()
}

/// The rows of a split from a position on.
async fn read(source: &Source, split: u64, position: u64, rows_max: usize) -> Vec<Rows> {
    let mut reader = source.open_split(split, position).await.unwrap();
    let (mut all, mut at) = (Vec::new(), position);
    while let Some(rows) = reader.next(rows_max).await.unwrap() {
        at += rows.batch.num_rows() as u64;
        assert_eq!(reader.position(), at);
        assert!(rows.batch.num_rows() <= rows_max);
        all.push(rows);
    }
    all
}

fn seqs(rows: &[Rows]) -> Vec<i64> {
    let seq = |rows: &Rows| rows.batch["seq"].as_primitive::<Int64Type>().values().to_vec();
    rows.iter().flat_map(seq).collect()
}

async fn plan_error(spec: &SourceSpec, objects: &dyn Objects) -> String {
    let error = plan("in", spec, objects).await.unwrap_err();
    assert!(error.is_fatal());
    error.to_string()
}

#[tokio::test]
async fn parquet_is_read_in_every_compression_from_any_row() {
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        let (_, objects) = stored("d/x.parquet", parquet_bytes(compression, None)).await;
        let source = open(&with_time(files("d/x.parquet"), "t"), &objects).await;
        assert_eq!(source.splits().count(), Some(4));
        let mut whole = Vec::new();
        for split in 0..4 {
            whole.extend(read(&source, split, 0, 128).await);
        }
        assert_eq!(seqs(&whole), (0..1000).collect::<Vec<_>>());
        for position in [1, 49, 50, 51, 299, 300] {
            let rest = read(&source, 2, position, 64).await;
            let from = 600 + i64::try_from(position).unwrap();
            assert_eq!(seqs(&rest), (from..900).collect::<Vec<_>>());
            if let Some(first) = rest.first() {
                assert_eq!(first.times.as_ref().unwrap().value(0), from);
                let origin = first.origins.as_ref().unwrap().value(0);
                assert_eq!(origin, (3 << 56) | u64::try_from(from).unwrap());
                let place = format!("d/x.parquet, row {}", from + 1);
                assert_eq!(source.place(Origin(origin)), place);
            }
        }
    }
}

#[tokio::test]
async fn columns_come_in_pipeline_types() {
    let (_, objects) = stored("x.parquet", parquet_bytes(Compression::SNAPPY, None)).await;
    let source = open(&files("x.parquet"), &objects).await;
    let types = weir_expr::types::write_schema(&source.schema());
    let types: Vec<_> = types.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let expected = [("seq", "int64"), ("name", "string"), ("t", "timestamp"), ("ratio", "float64")];
    assert_eq!(types, expected);
    let rows = read(&source, 0, 0, 1000).await;
    assert_eq!(rows[0].batch.schema(), source.schema());
    assert!(rows[0].times.is_none());
}

#[tokio::test]
async fn only_the_wanted_columns_are_read() {
    let (_, objects) = stored("x.parquet", parquet_bytes(Compression::SNAPPY, None)).await;
    let whole = open(&with_time(files("x.parquet"), "t"), &objects).await;
    let wanted = ["ratio".to_owned(), "seq".to_owned()];
    let source = whole.clone().with_columns(&wanted);
    let schema = source.schema();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
    assert_eq!(names, ["seq", "ratio"]);
    let (some, all) = (read(&source, 1, 10, 1000).await, read(&whole, 1, 10, 1000).await);
    assert_eq!(some[0].batch, all[0].batch.project(&[0, 3]).unwrap());
    assert_eq!(some[0].times, all[0].times);

    let none = open(&files("x.parquet"), &objects).await.with_columns(&[]);
    let rows = read(&none, 3, 0, 1000).await;
    assert_eq!((rows[0].batch.num_columns(), rows[0].batch.num_rows()), (0, 100));
}

#[tokio::test]
async fn a_null_event_time_is_named_with_its_row() {
    let (_, objects) = stored("x.parquet", parquet_bytes(Compression::SNAPPY, Some(412))).await;
    let source = open(&with_time(files("x.parquet"), "t"), &objects).await;
    let mut reader = source.open_split(1, 100).await.unwrap();
    reader.next(10).await.unwrap();
    let error = reader.next(10).await.unwrap_err();
    let expected = "in: bad row in x.parquet, row 413, column t: the event time is null";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn faults_of_the_store_are_outlived_and_change_nothing() {
    let bytes = parquet_bytes(Compression::ZSTD(ZstdLevel::default()), None);
    let reference = std::cell::OnceCell::new();
    for seed in 0..20 {
        let rows = sim_read(seed, bytes.clone());
        assert_eq!(&rows, reference.get_or_init(|| rows.clone()));
    }
}

fn sim_read(seed: u64, bytes: Vec<u8>) -> Vec<RecordBatch> {
    std::thread::scope(|scope| {
        let run = || {
            sim::run(seed, async {
                let store = SimStore::new(SimStoreSettings::instant(seed));
                store.plant(&"x.parquet".into(), bytes.clone());
                let rates =
                    FaultRates { error_before: 100, lost_answer: 100, ..Default::default() };
                store.set_faults(rates);
                let source = open(&files("x.parquet"), &OneStore(Arc::new(store))).await;
                let mut splits = Vec::new();
                for split in 0..4 {
                    let rows = read(&source, split, 5, 64).await;
                    let batches: Vec<_> = rows.into_iter().map(|rows| rows.batch).collect();
                    splits.push(concat_batches(&source.schema(), &batches).unwrap());
                }
                splits
            })
        };
        scope.spawn(run).join().unwrap()
    })
}

#[tokio::test]
async fn an_object_that_changed_is_refused_by_name() {
    let bytes = parquet_bytes(Compression::SNAPPY, None);
    let (store, objects) = stored("x.parquet", bytes.clone()).await;
    let spec = files("x.parquet");
    let source = open(&spec, &objects).await;
    let mut reader = source.open_split(0, 0).await.unwrap();
    reader.next(10).await.unwrap();
    // The same bytes written again are another object: who wrote them does not say so.
    store.put(&Path::from("x.parquet"), bytes.clone().into()).await.unwrap();
    let changed = "in: x.parquet: was changed after the run began; read it anew with --fresh";
    let Err(error) = source.open_split(1, 0).await.unwrap().next(10).await else {
        panic!("the object changed");
    };
    assert_eq!(error.to_string(), changed);

    store.put(&Path::from("x.parquet"), "short".into()).await.unwrap();
    let Err(error) = source.open_split(1, 0).await.unwrap().next(10).await else {
        panic!("the object changed");
    };
    let expected = format!(
        "in: x.parquet: was changed after the run began: it had {} bytes and has 5 now; read it \
         anew with --fresh",
        bytes.len()
    );
    assert_eq!(error.to_string(), expected);

    store.delete(&Path::from("x.parquet")).await.unwrap();
    let Err(error) = source.open_split(1, 0).await.unwrap().next(10).await else {
        panic!("the object is gone");
    };
    assert_eq!(error.to_string(), "in: x.parquet: not found");
}

#[tokio::test]
async fn what_the_author_of_a_manifest_must_change_is_said() {
    let (store, objects) = stored("d/x.parquet", b"PAR1 and nothing else".to_vec()).await;
    store.put(&Path::from("x.ndjson"), "{}".into()).await.unwrap();
    let says = async |uri: &str, expected: &str| {
        let error = plan_error(&files(uri), &objects).await;
        assert_eq!(error, format!("in: {uri}: {expected}"));
    };
    says("no.parquet", "not found").await;
    says("d.parquet/", "not found").await;
    says("d/*.csv", "csv is not built yet").await;
    says("d/*.json", "not found: no file matches").await;
    says("none/*", "not found: no file matches").await;
    says("_*", "not found: no file matches").await;
    store.put(&Path::from("odd"), "x".into()).await.unwrap();
    says("odd", "its suffix tells no format; declare `format: parquet` or `format: ndjson`").await;
    says("x.csv", "csv is not built yet").await;
    says(
        "x.ndjson",
        "ndjson without `schema` is not built yet; declare its columns as `schema: {name: type}`",
    )
    .await;
    let error = plan_error(&files("d/x.parquet"), &objects).await;
    assert!(error.starts_with("in: d/x.parquet: is no parquet file, or damaged: "), "{error}");

    store.put(&Path::from("empty.parquet"), "".into()).await.unwrap();
    let error = plan_error(&files("empty.parquet"), &objects).await;
    assert!(error.starts_with("in: empty.parquet: is no parquet file"), "{error}");
}

#[tokio::test]
async fn an_event_time_must_be_a_timestamp_that_exists() {
    let (_, objects) = stored("x.parquet", parquet_bytes(Compression::SNAPPY, None)).await;
    let error = async |column: &str| {
        let spec = with_time(files("x.parquet"), column);
        let plan = plan("in", &spec, &objects).await.unwrap();
        Source::new(&spec, &plan, 0, &objects).err().unwrap().to_string()
    };
    assert_eq!(error("when").await, "in: x.parquet: has no column when for the event time");
    let expected = "in: x.parquet: its column seq is int64, but event time needs a timestamp";
    assert_eq!(error("seq").await, expected);
}

#[tokio::test]
async fn damage_inside_a_parquet_file_is_named() {
    let mut bytes = parquet_bytes(Compression::ZSTD(ZstdLevel::default()), None);
    let (store, objects) = stored("x.parquet", bytes.clone()).await;
    let spec = files("x.parquet");
    bytes[4..400].fill(0xa5);
    store.put(&Path::from("x.parquet"), bytes.into()).await.unwrap();
    let source = open(&spec, &objects).await;
    let error = source.open_split(0, 0).await.unwrap().next(10).await.unwrap_err();
    assert!(error.is_fatal());
    assert!(error.to_string().starts_with("in: x.parquet: is damaged: "), "{error}");
}

#[test]
fn a_store_that_does_not_answer_is_unreachable_and_nobodys_fault() {
    sim::run(3, async {
        let store = SimStore::new(SimStoreSettings::instant(3));
        store.set_faults(FaultRates { error_before: 1000, ..Default::default() });
        let objects = OneStore(Arc::new(store) as Arc<dyn ObjectStore>);
        let error = plan("in", &files("x.parquet"), &objects).await.unwrap_err();
        assert!(!error.is_fatal());
        assert_eq!(error.to_string(), "in: cannot read x.parquet");
    });
}

#[tokio::test]
async fn the_example_is_read_from_the_disk() {
    let base_folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let objects = RealObjects { base_folder };
    let spec = with_time(files("data/flights.parquet"), "scheduled");
    let plan = plan("flights", &spec, &objects).await.unwrap();
    let source = Source::new(&spec, &plan, 0, &objects).unwrap().with_columns(&["origin".into()]);
    let mut rows = 0;
    for split in 0..source.splits().count().unwrap() {
        rows +=
            read(&source, split, 0, 8192).await.iter().map(|r| r.batch.num_rows()).sum::<usize>();
    }
    assert_eq!(rows, 336_776);
    let missing = plan_error(&files("data/no.parquet"), &objects).await;
    assert_eq!(missing, "in: data/no.parquet: not found");
}

/// docs/design/0007: what version 1 stored must be read for ever.
#[test]
fn stored_plans_and_positions_of_version_1_are_read() {
    use prost::Message as _;

    use crate::protocol::{SourcePositions, SplitPosition};

    let bytes = include_bytes!("../../testdata/source_plan_v1.bin");
    let stored = SourcePlan::decode(&bytes[..]).unwrap();
    let split = Split {
        object: "data/x.parquet".to_owned(),
        start: 3,
        end: 4,
        first_row: 900,
        object_bytes: 12_345,
        object_etag: "ab-1".to_owned(),
    };
    let schema_json = r#"[["origin","string"],["scheduled","timestamp"]]"#.to_owned();
    let expected = SourcePlan { step: "flights".to_owned(), schema_json, splits: vec![split] };
    assert_eq!(stored, expected);
    assert_eq!(schema(&stored).unwrap().fields().len(), 2);
    assert_eq!(stored.encode_to_vec(), bytes);

    let bytes = include_bytes!("../../testdata/source_positions_v1.bin");
    let begun =
        SplitPosition { split: 7, position: 1000, max_time_ms: -5, has_time: true, done: true };
    let expected = SourcePositions {
        step: "flights".to_owned(),
        frontier: 6,
        frontier_time_ms: 1_356_998_400_000,
        has_frontier_time: true,
        splits: vec![begun],
    };
    assert_eq!(SourcePositions::decode(&bytes[..]).unwrap(), expected);
    assert_eq!(expected.encode_to_vec(), bytes);
}
