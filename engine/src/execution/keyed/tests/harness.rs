//! Drives a [`Keyed`] as its task does, over a store that takes its time.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::compute;
use arrow::datatypes::{DataType, Int64Type};
use object_store::path::Path;
use weir_runtime::sim::store::{SimStore, SimStoreSettings};
use weir_state::ids::{CheckpointId, Generation, KeyGroupRange};
use weir_state::names::ObjectNamer;
use weir_state::shard::{Shard, ShardSpec};
use weir_state::store::{Settings, StateStore};
use weir_state::version::Version;

use super::model::{Place, ResultRows, Values};
use crate::execution::keyed::Keyed;
use crate::execution::keyed::definition::Definition;
use crate::execution::keyed::operator::Operator as _;
use crate::execution::names::RowNames;
use crate::execution::window::{WATERMARK_END, WATERMARK_NONE};
use crate::pipeline::check::{check, tests as declare};
use crate::pipeline::checked::{CheckedJob, CheckedVerb, SourceSchemas};
use crate::pipeline::spec::{AggregateSpec, Emit, Order, Verb, WindowSpec};
use crate::rows::{Kind, Rows};

const GROUPS: u16 = 4;
const FIRED_ROWS_MAX: usize = 1_024;
/// A row of a changelog: what it says, key, number, time.
pub(super) type ChangedRow = (Kind, u8, i64, i64);

#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) window: Option<WindowSpec>,
    pub(super) emit: Emit,
    pub(super) order: Order,
    pub(super) ttl_ms: Option<i64>,
    pub(super) lateness_ms: i64,
    /// Rows are those of an aggregate without a window, and may be taken back.
    pub(super) changelog: bool,
    pub(super) seed: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    /// Rows: key and time; the number of each is its value.
    Batch(Vec<(u8, i64)>),
    /// The watermark moves on by this.
    Watermark(i64),
    /// A parked unit gets its state.
    Read,
    /// Rows of a changelog.
    Changes(Vec<ChangedRow>),
    /// A checkpoint, after which all is forgotten and taken up from it.
    Restore,
}

pub(super) struct Found {
    pub(super) results: ResultRows,
    pub(super) late: usize,
    /// The changelog as an aggregate over it reads it: by how many rows, their sum, greatest time.
    pub(super) written: Vec<ChangedRow>,
}

pub(super) struct Harness {
    setup: Setup,
    job: CheckedJob,
    objects: SimStore,
    keyed: Option<Keyed>,
    names: RowNames,
    current: Option<i64>,
    watermark: i64,
    next: i64,
    checkpoint: u64,
    found: Found,
}

impl Harness {
    pub(super) fn new(setup: Setup) -> Self {
        let aggregate = AggregateSpec {
            key: vec!["key".to_owned()],
            window: setup.window,
            values: ["count(*) as n", "sum(seq) as s", "max(time) as m"]
                .map(str::to_owned)
                .to_vec(),
            lateness_ms: setup.lateness_ms,
            emit: setup.window.map(|_| setup.emit),
            ttl_ms: setup.ttl_ms,
        };
        let single = AggregateSpec {
            key: vec!["key".to_owned(), "seq".to_owned()],
            window: None,
            values: vec!["max(time) as time".to_owned()],
            lateness_ms: 0,
            emit: None,
            ttl_ms: None,
        };
        let from = if setup.changelog { "single" } else { "rows" };
        let steps = vec![
            declare::step("rows", &[], declare::keys()),
            declare::step("single", &["rows"], Verb::Aggregate(single)),
            declare::step("sums", &[from], Verb::Aggregate(aggregate)),
            declare::step("out", &["sums"], declare::blackhole()),
            declare::step("gone", &["single"], declare::blackhole()),
        ];
        let job = check(&declare::job(steps), &SourceSchemas::new()).expect("a sound job");
        let latency = Duration::from_millis(5);
        let objects = SimStore::new(SimStoreSettings::with_latency(setup.seed, latency, latency));
        let found = Found { results: ResultRows::new(), late: 0, written: Vec::new() };
        let mut harness = Self {
            setup,
            job,
            objects,
            keyed: None,
            names: RowNames::new(Vec::new(), 0),
            current: None,
            watermark: WATERMARK_NONE,
            next: 0,
            checkpoint: 0,
            found,
        };
        let range = KeyGroupRange::of_subtask(0, 1, GROUPS);
        harness.open(Version::empty("sums", range), WATERMARK_NONE);
        harness
    }

    pub(super) async fn run(setup: Setup, ops: &[Op]) -> Found {
        let mut harness = Self::new(setup);
        for op in ops {
            match op {
                Op::Batch(rows) => harness.batch(rows).await,
                Op::Watermark(step) => {
                    harness.watermark = harness.watermark.max(0) + step;
                    let watermark = harness.watermark;
                    harness.arrived(watermark).await;
                }
                Op::Read => {
                    harness.read().await;
                }
                Op::Changes(rows) => harness.changed(rows).await,
                Op::Restore => harness.restore().await,
            }
        }
        harness.arrived(WATERMARK_END).await;
        harness.drain().await;
        assert_eq!(harness.current, None, "the last watermark went on");
        let mut found = harness.found;
        found.results.retain(|_, values| !values.is_empty());
        found.results.values_mut().for_each(|values| values.sort_unstable());
        found
    }

    pub(super) fn keyed(&mut self) -> &mut Keyed {
        self.keyed.as_mut().expect("it is open")
    }

    fn open(&mut self, version: Version, watermark: i64) {
        let settings = Settings::for_memory(1 << 20, 1);
        let store = StateStore::new(Arc::new(self.objects.clone()), Path::from("state"), settings);
        let range = KeyGroupRange::of_subtask(0, 1, GROUPS);
        let namer = ObjectNamer::new(Generation(self.checkpoint + 1), "w");
        let spec = ShardSpec { step: "sums".to_owned(), range, namer };
        let shard = Shard::open(&store, spec, version).expect("a version of this step");
        let place = self.job.steps.iter().position(|step| step.id == "sums");
        let place = place.expect("the step is there");
        let step = &self.job.steps[place];
        let CheckedVerb::Aggregate(aggregate) = &step.verb else { unreachable!() };
        let definition = Definition::new(place, step, aggregate, GROUPS);
        self.keyed = Some(Keyed::new(definition, shard, self.setup.order, watermark));
        self.current = (watermark > WATERMARK_NONE).then_some(watermark);
    }

    pub(super) async fn batch(&mut self, rows: &[(u8, i64)]) {
        while !self.keyed().has_room() {
            self.read().await;
        }
        let times: Vec<i64> = rows.iter().map(|row| row.1).collect();
        let first = self.next;
        self.next += rows.len() as i64;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0.to_string()))),
            Arc::new(BinaryArray::from_iter_values(rows.iter().map(|_| b"v"))),
            Arc::new(Int64Array::from_iter_values(first..self.next)),
            Arc::new(TimestampMillisecondArray::from(times.clone()).with_timezone("UTC")),
        ];
        let schema = Arc::clone(&self.job.steps[0].schema);
        let columns = columns.iter().zip(schema.fields());
        let columns =
            columns.map(|(column, field)| compute::cast(column, field.data_type()).unwrap());
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap();
        let rows = Rows { times: Some(times.into()), ..Rows::plain(batch) };
        self.keyed.as_mut().unwrap().arrive(0, &rows, &self.names).unwrap();
        self.settle().await;
    }

    async fn changed(&mut self, rows: &[ChangedRow]) {
        while !self.keyed().has_room() {
            self.read().await;
        }
        let times: Vec<i64> = rows.iter().map(|row| row.3).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1.to_string()))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2))),
            Arc::new(TimestampMillisecondArray::from(times.clone()).with_timezone("UTC")),
        ];
        let schema = Arc::clone(&self.job.steps[1].schema);
        let columns = columns.iter().zip(schema.fields());
        let columns =
            columns.map(|(column, field)| compute::cast(column, field.data_type()).unwrap());
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap();
        let kinds = rows.iter().map(|row| Some(row.0 as u8)).collect();
        let rows = Rows { times: Some(times.into()), kinds: Some(kinds), ..Rows::plain(batch) };
        self.keyed.as_mut().unwrap().arrive(0, &rows, &self.names).unwrap();
        self.settle().await;
    }

    async fn arrived(&mut self, watermark: i64) {
        self.keyed().epochs().watermark(watermark);
        self.settle().await;
    }

    /// A parked unit gets its state; whether there was one.
    async fn read(&mut self) -> bool {
        if self.keyed().parked() == 0 {
            return false;
        }
        let state = self.keyed().read().await;
        self.keyed().unpark(state).unwrap();
        self.settle().await;
        true
    }

    async fn drain(&mut self) {
        while self.read().await {}
        assert!(self.keyed().is_drained());
    }

    pub(super) async fn restore(&mut self) {
        self.drain().await;
        self.checkpoint += 1;
        let id = CheckpointId(self.checkpoint);
        let done = self.keyed().shard().checkpoint(id).await.expect("the store answers");
        let watermark = self.keyed().epochs().arrived();
        let range = KeyGroupRange::of_subtask(0, 1, GROUPS);
        let version = Version::restore("sums", range, &[done.version]).unwrap();
        self.open(version, watermark);
        self.settle().await;
    }

    /// As the task's: writes what changed, releases watermarks, runs timers.
    async fn settle(&mut self) {
        loop {
            self.collect();
            let released = self.keyed().epochs().release();
            self.current = self.current.max(released);
            let Some(watermark) = self.current else { return };
            let up_to = self.keyed().due_at(watermark);
            let Some(up_to) = up_to.filter(|time| self.keyed().shard().next_timer_ms() <= *time)
            else {
                self.current = None;
                return;
            };
            let due = self
                .keyed()
                .shard()
                .due_timers(up_to, FIRED_ROWS_MAX)
                .wait()
                .await
                .expect("the store answers");
            if due.timers.is_empty() {
                self.current = None;
                return;
            }
            let due = self.keyed().claim(due);
            if due.timers.is_empty() {
                assert!(self.keyed().parked() > 0, "somebody holds the keys");
                return;
            }
            let values =
                self.keyed().values_of(&due.timers).wait().await.expect("the store answers");
            let keyed = self.keyed.as_mut().unwrap();
            let rows = keyed.fire(&due.timers, &values, up_to, &self.names).unwrap().unwrap();
            assert!(rows.is_empty() || self.setup.emit == Emit::OnClose);
            assert!(rows.kinds.is_none());
            for row in 0..rows.len() {
                let (key, value) = result(&rows, row, self.setup.window.is_some());
                let time = rows.times.as_ref().unwrap().value(row);
                assert_eq!(time, key.2 - 1, "the time of a window's result");
                let values = self.found.results.entry(key).or_default();
                values.push(value);
                let sessions = matches!(self.setup.window, Some(WindowSpec::Session { .. }));
                assert!(values.len() == 1 || sessions, "{key:?} was written twice");
            }
        }
    }

    /// Folds the changes that were made.
    fn collect(&mut self) {
        let keyed = self.keyed.as_mut().unwrap();
        self.found.late += keyed.take_late();
        while let Some(rows) = keyed.take_changes(&self.names).unwrap() {
            let mut half = None;
            for row in 0..rows.len() {
                let (key, value) = result(&rows, row, self.setup.window.is_some());
                let kind = rows.kind(row);
                self.found.written.push((kind, bucket(&value), value.1, value.2));
                assert_eq!(half.is_some(), kind == Kind::After, "+U stands right behind its -U");
                let values = self.found.results.entry(key).or_default();
                match kind {
                    Kind::Insert => {
                        // A group whose time is over was not taken back.
                        if self.setup.ttl_ms.is_some() {
                            values.clear();
                        }
                        values.push(value);
                    }
                    Kind::Before | Kind::Delete => {
                        let written = values.iter().position(|written| *written == value);
                        values.remove(written.expect("a row is taken back as it was written"));
                    }
                    Kind::After => {
                        assert_ne!(half, Some((key, value)), "nothing changed");
                        values.push(value);
                    }
                }
                let sessions = matches!(self.setup.window, Some(WindowSpec::Session { .. }));
                assert!(values.len() <= 1 || sessions, "{key:?} is there already");
                half = (kind == Kind::Before).then_some((key, value));
            }
            assert!(half.is_none(), "+U is in the batch of its -U");
        }
    }
}

/// By which results are grouped again.
pub(super) fn bucket(value: &Values) -> u8 {
    u8::try_from(value.0 % 3).unwrap()
}

fn result(rows: &Rows, row: usize, has_window: bool) -> (Place, Values) {
    let column = |name: &str| {
        let column = rows.batch.column_by_name(name).unwrap();
        let column = compute::cast(column, &DataType::Int64).unwrap();
        column.as_primitive::<Int64Type>().value(row)
    };
    let key = rows.batch.column(0).as_string::<i32>().value(row).parse().unwrap();
    let border = |name: &str| if has_window { column(name) } else { 0 };
    let window = (key, border("window_start"), border("window_end"));
    (window, (column("n"), column("s"), column("m")))
}
