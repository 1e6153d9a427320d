//! The example job over real departures gives the independent engine's results, whatever the width,
//! whatever the order of rows within the watermark's delay, and in both epoch orders.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, TimestampMillisecondArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;

use crate::command::Folder;
use crate::rows::{assert_sink_is, root};

const DELAY_MS: i64 = 24 * 3_600_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Original,
    Shuffled,
}

/// What the example writes: a sink's folder, and the rows that the independent engine computes.
const SINKS: [(&str, &str); 2] =
    [("out/delays", "flights.delays.ndjson"), ("out/aircraft", "flights.aircraft.ndjson")];

#[track_caller]
pub(crate) fn assert_output_is_right(folder: &Folder) {
    for (sink, expected) in SINKS {
        assert_sink_is(folder, sink, expected);
    }
}

/// The example's manifest at another width, reading `data`, with more checkpoints.
pub(crate) fn manifest(workers: u32, slots: u32, data: &Path, rate: Option<u32>) -> String {
    let text = std::fs::read_to_string(root().join("examples/flights.yaml")).expect("the example");
    let rate = rate.map(|rate| format!(", rate: {rate}")).unwrap_or_default();
    let changed = text
        .replace("replicas: 2", &format!("replicas: {workers}\n  slots: {slots}"))
        .replace("interval: 1s", "interval: 100ms")
        .replace("{uri: data/flights.parquet}", &format!("{{uri: {}{rate}}}", data.display()));
    assert!(changed.contains(&format!("slots: {slots}")) && changed.contains("100ms"));
    assert!(changed.contains(&data.display().to_string()));
    changed
}

pub(crate) fn original() -> std::path::PathBuf {
    root().join("examples/data/flights.parquet")
}

fn read(path: &Path) -> RecordBatch {
    let file = File::open(path).expect("the example's data");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("parquet").build();
    let batches: Vec<_> = reader.expect("readable").map(|batch| batch.expect("a batch")).collect();
    concat_batches(&batches[0].schema(), &batches).expect("one schema")
}

/// The same rows in another order in which none is late: each row may stand anywhere between its
/// time and its time plus the delay.
fn shuffle(target: &Path, seed: u64) {
    let rows = read(&original());
    let times = rows.column_by_name("scheduled").expect("event time");
    let times = times.as_any().downcast_ref::<TimestampMillisecondArray>().expect("milliseconds");
    let mut random = Random(seed);
    let places: Vec<i64> = (0..times.len())
        .map(|row| times.value(row) + i64::try_from(random.below(DELAY_MS as u64)).unwrap())
        .collect();
    let mut order: Vec<u32> = (0..u32::try_from(times.len()).unwrap()).collect();
    order.sort_by_key(|row| places[*row as usize]);
    let shuffled = take_record_batch(&rows, &UInt32Array::from(order)).expect("in range");
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(10_000)).build();
    let file = File::create(target).expect("the shuffled file");
    let schema = Arc::clone(&shuffled.schema());
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).expect("a writer");
    writer.write(&shuffled).expect("written");
    writer.close().expect("closed");
}

/// splitmix64 (Steele et al. 2014): a test's own numbers, the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

#[track_caller]
fn check(workers: u32, slots: u32, order: Order, epochs: &str) {
    let folder = Folder::new();
    let data = match order {
        Order::Original => original(),
        Order::Shuffled => {
            let path = folder.path().join("shuffled.parquet");
            shuffle(&path, u64::from(workers * 10 + slots));
            path
        }
    };
    let width = format!("slots: {slots}\n");
    let manifest = manifest(workers, slots, &data, None)
        .replace(&width, &format!("{width}  state: {{order: {epochs}}}\n"));
    assert!(manifest.contains(&format!("order: {epochs}")));
    folder.write("flights.yaml", &manifest);
    folder.weir(&["run", "flights.yaml"]).check(0, &["finished", "rows in 336776", "late rows 0"]);
    assert_output_is_right(&folder);
    folder.assert_nothing_runs();
}

/// Every pair of (workers, slots, row order, epoch order) once; `WEIR_TEST_ALL` runs every
/// combination.
#[test]
fn output_equals_the_independent_engines_at_every_width_and_order() {
    use Order::{Original, Shuffled};
    let all = std::env::var_os("WEIR_TEST_ALL").is_some();
    for (workers, slots, pair) in [
        (1, 1, (Original, "Relaxed")),
        (1, 3, (Shuffled, "Strict")),
        (2, 1, (Shuffled, "Relaxed")),
        (2, 3, (Original, "Strict")),
        (5, 1, (Original, "Strict")),
        (5, 3, (Shuffled, "Relaxed")),
    ] {
        for order in [Original, Shuffled] {
            for epochs in ["Relaxed", "Strict"] {
                if all || (order, epochs) == pair {
                    check(workers, slots, order, epochs);
                }
            }
        }
    }
}
