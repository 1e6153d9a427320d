//! Lines, ranges, compression, and what is said of bad lines.

use std::io::Write as _;
use std::sync::Arc;

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::objects::{OneStore, retry};
use crate::pipeline::spec::{EventTimeSpec, SourceKind, SourceSpec, StoreSpec};
use crate::protocol::Split;
use crate::source::{Source, plan};

/// A source of one file with these bytes.
struct File {
    objects: OneStore,
    spec: SourceSpec,
}

impl File {
    async fn new(name: &str, bytes: impl Into<Vec<u8>>, columns: &[(&str, &str)]) -> Self {
        let store = Arc::new(InMemory::new());
        store.put(&name.into(), bytes.into().into()).await.unwrap();
        let schema = columns.iter().map(|&(name, text)| (name.into(), text.into())).collect();
        let kind = SourceKind::Files {
            uri: name.to_owned(),
            format: None,
            schema: Some(schema),
            store: StoreSpec::default(),
        };
        let spec = SourceSpec { kind, rate: None, event_time: None };
        Self { objects: OneStore(store), spec }
    }

    fn with_time(mut self, column: &str) -> Self {
        let column = Some(column.to_owned());
        self.spec.event_time = Some(EventTimeSpec { column, delay_ms: 0 });
        self
    }

    /// The source with splits of about so many bytes each.
    async fn source(&self, split_bytes: u64) -> Source {
        let mut plan = plan("in", &self.spec, &self.objects).await.unwrap();
        if let [whole] = &plan.splits[..]
            && split_bytes < whole.end
            && whole.end == whole.object_bytes
        {
            let starts = (0..whole.end).step_by(usize::try_from(split_bytes).unwrap());
            let cut = |start: u64| Split {
                start,
                end: (start + split_bytes).min(whole.end),
                ..whole.clone()
            };
            plan.splits = starts.map(cut).collect();
        }
        Source::new(&self.spec, &plan, 1, &self.objects).unwrap()
    }

    async fn error(&self) -> String {
        let source = self.source(u64::MAX).await;
        let mut reader = source.open_split(0, 0).await.unwrap();
        loop {
            match reader.next(100).await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the file is good"),
                Err(error) => {
                    assert!(error.is_fatal());
                    return error.to_string();
                }
            }
        }
    }
}

/// What each split gives: (origin's byte, value of column `a`), restarting the reader at its
/// position before every batch if asked to.
async fn read(source: &Source, rows_max: usize, restart: bool) -> Vec<(u64, Option<i64>)> {
    use arrow::array::AsArray;
    let mut all = Vec::new();
    for split in 0..source.splits().count().unwrap() {
        let mut reader = source.open_split(split, 0).await.unwrap();
        while let Some(rows) = reader.next(rows_max).await.unwrap() {
            let values = rows.batch["a"].as_primitive::<arrow::datatypes::Int64Type>();
            let origins = rows.origins.unwrap();
            all.extend(origins.values().iter().map(|o| o & 0xff_ffff_ffff).zip(values));
            if restart {
                reader = source.open_split(split, reader.position()).await.unwrap();
            }
        }
    }
    all
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    weir_runtime::sim::run(1, future)
}

#[test]
fn line_ends_blanks_and_marks_are_no_data() {
    block_on(async {
        let text = "\u{feff}{\"a\":1}\r\n\n  \t\r\n{\"a\":2}\n\n{\"a\":3}";
        let source = File::new("x.ndjson", text, &[("a", "int64")]).await.source(u64::MAX).await;
        let expected = [(0, Some(1)), (18, Some(2)), (27, Some(3))];
        assert_eq!(read(&source, 100, false).await, expected);
    });
}

#[test]
fn an_empty_file_has_no_rows() {
    block_on(async {
        for text in ["", "\n\n"] {
            let source = File::new("x.jsonl", text, &[("a", "int64")]).await.source(u64::MAX).await;
            assert_eq!(read(&source, 100, false).await, []);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn ranges_share_no_line_and_miss_none(
        lines in vec((0..12_usize, any::<bool>()), 0..20),
        split_bytes in 1..60_u64,
        rows_max in 1..4_usize,
        last_is_open in any::<bool>(),
    ) {
        let mut text = String::new();
        let mut expected = Vec::new();
        for (number, (padding, blank)) in (0..).zip(&lines) {
            if !blank {
                expected.push((text.len() as u64, Some(number)));
                text += &format!("{{\"a\":{number}{}}}", " ".repeat(*padding));
            }
            text += "\n";
        }
        if last_is_open {
            text.pop();
        }
        block_on(async {
            let file = File::new("x.ndjson", text, &[("a", "int64")]).await;
            let source = file.source(split_bytes).await;
            assert_eq!(read(&source, rows_max, false).await, expected);
            assert_eq!(read(&source, rows_max, true).await, expected);
        });
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Lines of about 5 MiB: several chunks, also when compressed.
fn many_lines() -> (String, Vec<(u64, Option<i64>)>) {
    let (mut text, mut rows) = (String::new(), Vec::new());
    for number in 0..60_000_i64 {
        rows.push((text.len() as u64, Some(number)));
        let noise = number.wrapping_mul(0x5851_f42d_4c95_7f2d);
        text += &format!(
            "{{\"a\":{number},\"noise\":\"{noise:x}{:x}\",\"b\":[{{\"c\":null}}]}}\n",
            noise.wrapping_mul(noise)
        );
    }
    (text, rows)
}

#[test]
fn compressed_files_give_the_same_rows_from_any_position() {
    let (text, expected) = many_lines();
    let (first, second) = text.as_bytes().split_at(2_000_000);
    block_on(async {
        for (name, bytes) in [
            ("x.ndjson", text.clone().into_bytes()),
            ("x.ndjson.gz", gzip(text.as_bytes())),
            ("x.ndjson.gz", [gzip(first), gzip(second)].concat()),
            ("x.ndjson.zst", zstd::encode_all(text.as_bytes(), 1).unwrap()),
            (
                "x.ndjson.zst",
                [zstd::encode_all(first, 1).unwrap(), zstd::encode_all(second, 1).unwrap()]
                    .concat(),
            ),
        ] {
            let file = File::new(name, bytes, &[("a", "int64")]).await;
            let source = file.source(1_000_000).await;
            let rows = read(&source, 20_000, true).await;
            assert!(rows == expected, "{name}: {} rows", rows.len());
        }
    });
}

#[test]
fn very_compressible_text_is_read_whole() {
    // Far more than one buffer comes from a few compressed bytes.
    let text = format!("{{\"a\":1,\"b\":\"{}\"}}\n{{\"a\":2}}", "x".repeat(9_000_000));
    block_on(async {
        let bytes = zstd::encode_all(text.as_bytes(), 3).unwrap();
        let source = File::new("x.ndjson.zst", bytes, &[("a", "int64")]).await.source(9).await;
        let rows = read(&source, 100, false).await;
        assert_eq!(rows.iter().map(|row| row.1).collect::<Vec<_>>(), [Some(1), Some(2)]);
    });
}

#[test]
fn damaged_compression_is_named() {
    let (text, _) = many_lines();
    let (gz, zst) = (gzip(text.as_bytes()), zstd::encode_all(text.as_bytes(), 1).unwrap());
    block_on(async {
        for (name, bytes, what) in [
            ("x.ndjson.gz", text.clone().into_bytes(), "or not compressed as its name says"),
            ("x.ndjson.zst", text.clone().into_bytes(), "or not compressed as its name says"),
            ("x.ndjson.gz", gz[..gz.len() - 9].to_vec(), "is damaged, or was cut"),
            ("x.ndjson.zst", zst[..zst.len() - 9].to_vec(), "is damaged, or was cut"),
        ] {
            let error = File::new(name, bytes, &[("a", "int64")]).await.error().await;
            assert!(error.starts_with(&format!("in: {name}: is damaged")), "{error}");
            assert!(error.contains(what), "{error}");
        }
    });
}

#[test]
fn a_bad_row_is_named_with_line_byte_column_and_text() {
    block_on(async {
        let text = "{\"a\":1}\n\n{\"a\":\"seven\"}\n";
        let file = File::new("x.ndjson", text, &[("a", "int64")]).await;
        let expected = "in: bad row in x.ndjson, line 3 (byte 9), column a: a string where int64 \
                        is expected: {\"a\":\"seven\"}";
        assert_eq!(file.error().await, expected);
        // Also when reading went on behind the lines before it.
        let mut reader = file.source(u64::MAX).await.open_split(0, 9).await.unwrap();
        assert_eq!(reader.next(1).await.unwrap_err().to_string(), expected);

        let gz = File::new("x.ndjson.gz", gzip(text.as_bytes()), &[("a", "int64")]).await;
        assert_eq!(gz.error().await, expected.replace("x.ndjson", "x.ndjson.gz"));

        let file = File::new("x.ndjson", "{\"a\":1}\n{oops\n", &[("a", "int64")]).await;
        let expected = "in: bad row in x.ndjson, line 2 (byte 8): is not JSON: the name of a field \
                        is missing at byte 1: {oops";
        assert_eq!(file.error().await, expected);
    });
}

#[test]
fn a_null_event_time_is_a_bad_row() {
    block_on(async {
        let columns = [("a", "int64"), ("t", "timestamp")];
        let text = "{\"t\":\"2013-01-01\"}\n{\"a\":5}\n";
        let file = File::new("x.ndjson", text, &columns).await.with_time("t");
        assert_eq!(
            file.error().await,
            "in: bad row in x.ndjson, line 2 (byte 19), column t: the event time is null: {\"a\":5}"
        );
        let text = "{\"t\":\"2013-01-01\"}\n{\"a\":5,\"t\":7}\n";
        let file = File::new("x.ndjson", text, &columns).await.with_time("t");
        let source = file.source(u64::MAX).await.with_columns(&["a".to_owned()]);
        let mut reader = source.open_split(0, 0).await.unwrap();
        let rows = reader.next(10).await.unwrap().unwrap();
        assert_eq!(rows.batch.num_columns(), 1);
        assert_eq!(rows.times.unwrap().values(), &[1_356_998_400_000, 7]);
    });
}

#[test]
fn the_text_of_a_bad_row_is_cut_at_200_characters() {
    block_on(async {
        let long = "é".repeat(500);
        let text = format!("{{\"a\":\"{long}\"}}");
        let error = File::new("x.ndjson", text, &[("a", "int64")]).await.error().await;
        let shown = error.split_once("is expected: ").unwrap().1;
        assert_eq!(shown, format!("{{\"a\":\"{}…", "é".repeat(194)));
        // What is wrong is shown, wherever it is.
        let text = format!("{{\"b\":\"{long}\",\"a\":\"seven\"}}");
        let error = File::new("x.ndjson", text, &[("a", "int64")]).await.error().await;
        let shown = error.split_once("is expected: ").unwrap().1;
        assert_eq!(shown, format!("…{}\",\"a\":\"seven\"}}", "é".repeat(36)));
        // Also of a line that ends too early.
        let text = format!("{{\"b\":\"{long}");
        let error = File::new("x.ndjson", text, &[("a", "int64")]).await.error().await;
        assert!(error.ends_with(&format!(": …{}", "é".repeat(50))), "{error}");
    });
}

#[test]
fn a_row_is_bad_whatever_is_used_of_it() {
    block_on(async {
        let columns = [("a", "int64"), ("b", "int64")];
        let file = File::new("x.ndjson", "{\"a\":1,\"b\":\"x\"}", &columns).await;
        let source = file.source(u64::MAX).await.with_columns(&["a".to_owned()]);
        let error = source.open_split(0, 0).await.unwrap().next(10).await.unwrap_err();
        assert!(error.to_string().contains("column b: a string where int64"), "{error}");
    });
}

#[test]
fn long_lines_make_short_batches() {
    block_on(async {
        let line = format!("{{\"a\":1,\"b\":\"{}\"}}\n", "x".repeat(1_000_000));
        let file = File::new("x.ndjson", line.repeat(12), &[("a", "int64")]).await;
        let mut reader = file.source(u64::MAX).await.open_split(0, 0).await.unwrap();
        let rows = reader.next(1000).await.unwrap().unwrap();
        assert_eq!(rows.batch.num_rows(), 5);
    });
}

#[test]
fn a_line_without_end_is_refused_with_the_limit() {
    block_on(async {
        let text = format!("{{\"b\":1}}\n{{\"a\":\"{}\"}}", "x".repeat(lines::LINE_BYTES_MAX + 10));
        let error = File::new("x.ndjson", text, &[("a", "string")]).await.error().await;
        let expected = "in: bad row in x.ndjson, line 2 (byte 8): the line is longer than 16777216 \
                        bytes: {\"a\":\"xxx";
        assert!(error.starts_with(expected), "{error}");
        assert!(error.len() < 400, "{error}");
    });
}

#[test]
fn requests_that_fail_for_a_while_do_not_change_the_rows() {
    use weir_runtime::sim::store::{FaultRates, SimStore, SimStoreSettings};
    let (text, expected) = many_lines();
    for seed in 0..5 {
        weir_runtime::sim::run(seed, async {
            let mut file = File::new("x.ndjson", "", &[("a", "int64")]).await;
            let store = SimStore::new(SimStoreSettings::instant(seed));
            store.plant(&"x.ndjson".into(), text.clone());
            store.set_faults(FaultRates {
                error_before: 150,
                lost_answer: 150,
                ..Default::default()
            });
            file.objects = OneStore(Arc::new(store));
            let source = file.source(700_000).await;
            assert!(read(&source, 10_000, true).await == expected);
        });
    }
    assert!(retry::is_final(&object_store::Error::NotImplemented {
        operation: String::new(),
        implementer: String::new()
    }));
}
