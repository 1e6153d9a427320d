//! Folders and globs: what is found, in which order, and what is said of files that do not fit.

use std::io::Write as _;

use super::*;

/// One column `seq`, and what `extra` adds.
fn numbered(rows: std::ops::Range<i64>, extra: &[(&str, ArrayRef)]) -> Vec<u8> {
    let seq: ArrayRef = Arc::new(Int64Array::from_iter_values(rows));
    let columns = extra.iter().cloned().chain([("seq", seq)]);
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

async fn folder(files: &[(&str, Vec<u8>)]) -> (Arc<InMemory>, OneStore) {
    let store = Arc::new(InMemory::new());
    for (name, bytes) in files {
        store.put(&Path::from(*name), bytes.clone().into()).await.unwrap();
    }
    (Arc::clone(&store), OneStore(store))
}

async fn names(uri: &str, objects: &dyn Objects) -> Vec<String> {
    let plan = plan("in", &files(uri), objects).await.unwrap();
    plan.splits.into_iter().map(|split| split.object).collect()
}

#[tokio::test]
async fn a_folder_is_all_below_it_and_a_glob_what_matches_in_the_order_of_names() {
    let file = || numbered(0..1, &[]);
    let (_, objects) = folder(&[
        ("d/b.parquet", file()),
        ("d/a.parquet", file()),
        ("d/2024/01/x.parquet", file()),
        ("d/_weir/run/g1/x.parquet", file()),
        ("d/.hidden.parquet", file()),
        ("d/_SUCCESS", Vec::new()),
        ("d10/a.parquet", file()),
    ])
    .await;
    let all = ["d/2024/01/x.parquet", "d/a.parquet", "d/b.parquet"];
    assert_eq!(names("d", &objects).await, all);
    assert_eq!(names("d/", &objects).await, all);
    assert_eq!(names("d/**", &objects).await, all);
    assert_eq!(names("d/**/*.parquet", &objects).await, all);
    assert_eq!(names("d/*.parquet", &objects).await, all[1..]);
    assert_eq!(names("d/[!b].parquet", &objects).await, all[1..2]);
    assert_eq!(names("d*/a.parquet", &objects).await, ["d/a.parquet", "d10/a.parquet"]);
    assert_eq!(names("d/2024/*/?.parquet", &objects).await, all[..1]);
    assert_eq!(names("d/.*.parquet", &objects).await, ["d/.hidden.parquet"]);
}

#[tokio::test]
async fn a_folder_of_the_disk_is_read_row_for_row_and_rows_are_named_by_file() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("in put");
    std::fs::create_dir_all(folder.join("deep")).unwrap();
    std::fs::write(folder.join("b.parquet"), numbered(10..20, &[])).unwrap();
    std::fs::write(folder.join("deep/c.parquet"), numbered(20..30, &[])).unwrap();
    std::fs::write(folder.join("a.parquet"), numbered(0..10, &[])).unwrap();
    let objects = RealObjects { base_folder: base.path().to_owned() };
    for uri in ["in put".to_owned(), "*/**".to_owned(), format!("file://{}", folder.display())] {
        let spec = files(&uri);
        let plan = plan("in", &spec, &objects).await.unwrap();
        let source = Source::new(&spec, &plan, 1, &objects).unwrap();
        let mut whole = Vec::new();
        for split in 0..source.splits().count().unwrap() {
            whole.extend(read(&source, split, 0, 7).await);
        }
        assert_eq!(seqs(&whole), (0..30).collect::<Vec<_>>());
        let origin = whole.last().unwrap().origins.as_ref().unwrap().value(0);
        let place = source.place(Origin(origin));
        assert!(place.ends_with("in put/deep/c.parquet, row 8"), "{place}");
    }
}

#[tokio::test]
async fn packed_ndjson_is_read_and_its_bad_row_named() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"{\"a\":1}\n{\"a\":2}\n").unwrap();
    let packed = zstd::stream::encode_all(&b"{\"a\":3}\n{\"a\":\"x\"}\n"[..], 1).unwrap();
    let (_, objects) =
        folder(&[("d/1.ndjson.gz", gzip.finish().unwrap()), ("d/2.jsonl.zst", packed)]).await;
    let mut spec = files("d");
    let SourceKind::Files { schema, .. } = &mut spec.kind else { unreachable!() };
    *schema = Some(vec![("a".to_owned(), "int64".to_owned())]);
    let source = open(&spec, &objects).await;
    assert_eq!(source.splits().count(), Some(2));
    let first = source.open_split(0, 0).await.unwrap().next(100).await.unwrap().unwrap();
    assert_eq!(first.batch["a"].as_primitive::<Int64Type>().values(), &[1, 2]);
    let mut second = source.open_split(1, 0).await.unwrap();
    second.next(1).await.unwrap();
    let error = second.next(1).await.unwrap_err().to_string();
    let expected = "in: bad row in d/2.jsonl.zst, line 2 (byte 8), column a: ";
    assert!(error.starts_with(expected), "{error}");
}

#[tokio::test]
async fn files_of_one_source_have_the_same_columns() {
    let word: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let number: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    let says = async |second: Vec<u8>, expected: &str| {
        let first = numbered(0..1, &[("w", Arc::clone(&word))]);
        let (_, objects) = folder(&[("d/a.parquet", first), ("d/b.parquet", second)]).await;
        assert_eq!(plan_error(&files("d"), &objects).await, format!("in: d/b.parquet: {expected}"));
    };
    says(numbered(0..1, &[]), "has no column `w`, which d/a.parquet has").await;
    says(
        numbered(0..1, &[("w", Arc::clone(&number))]),
        "its column `w` is int64, that of d/a.parquet is string",
    )
    .await;
    let both = [("w", Arc::clone(&word)), ("n", Arc::clone(&number))];
    says(numbered(0..1, &both), "has a column `n`, which d/a.parquet has not").await;
}

#[tokio::test]
async fn files_of_several_formats_are_told_apart() {
    let (store, objects) =
        folder(&[("d/a.parquet", numbered(0..1, &[])), ("d/b.ndjson", b"{}".to_vec())]).await;
    let expected = "in: d/b.ndjson: is of another format than d/a.parquet; declare `format`, or \
                    take a glob of one format";
    assert_eq!(plan_error(&files("d"), &objects).await, expected);
    store.delete(&Path::from("d/b.ndjson")).await.unwrap();
    store.put(&Path::from("d/notes.txt"), "x".into()).await.unwrap();
    let expected = "in: d/notes.txt: its suffix tells no format; declare `format: parquet` or \
                    `format: ndjson`";
    assert_eq!(plan_error(&files("d"), &objects).await, expected);
    let expected = "in: s3://b*/x: a glob begins behind the bucket";
    assert_eq!(plan_error(&files("s3://b*/x"), &objects).await, expected);
}

#[tokio::test]
async fn a_file_of_a_folder_that_changed_or_went_stops_the_job_by_name() {
    let (store, objects) = folder(&[
        ("d/a.parquet", numbered(0..5, &[])),
        ("d/b.parquet", numbered(5..9, &[])),
        ("d/c.parquet", numbered(9..12, &[])),
    ])
    .await;
    let source = open(&files("d"), &objects).await;
    store.put(&Path::from("d/a0.parquet"), "later".into()).await.unwrap();
    store.put(&Path::from("d/b.parquet"), numbered(5..9, &[]).into()).await.unwrap();
    store.delete(&Path::from("d/c.parquet")).await.unwrap();
    assert_eq!(seqs(&read(&source, 0, 0, 100).await), [0, 1, 2, 3, 4]);
    let failed = async |split| match source.open_split(split, 0).await {
        Ok(mut reader) => reader.next(10).await.unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    let changed = "in: d/b.parquet: was changed after the run began; read it anew with --fresh";
    assert_eq!(failed(1).await, changed);
    assert_eq!(failed(2).await, "in: d/c.parquet: not found");
}

#[tokio::test]
async fn columns_of_several_files_may_stand_in_any_order() {
    let word: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("seq", Arc::new(Int64Array::from(vec![1])) as ArrayRef, true),
        ("w", Arc::clone(&word), true),
    ])
    .unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let first = numbered(0..1, &[("w", word)]);
    let (_, objects) = folder(&[("d/a.parquet", first), ("d/b.parquet", bytes)]).await;
    let source = open(&files("d"), &objects).await;
    let rows = [read(&source, 0, 0, 9).await, read(&source, 1, 0, 9).await].concat();
    assert_eq!(seqs(&rows), [0, 1]);
    assert_eq!(rows[0].batch.schema(), rows[1].batch.schema());
}
