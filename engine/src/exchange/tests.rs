//! Gates and outputs together, on one worker and across a simulated network, under seeds.
//!
//! Method: workers with a [`Registry`] each, several source subtasks and several destinations that
//! live on different workers. Rows carry (source, number), so order, loss and repetition show.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use weir_runtime::sim::{self, Process};
use weir_runtime::{clock, random, task};
use weir_state::ids::{CheckpointId, Generation, KeyGroup, KeyGroupRange};

use super::message::Message;
use super::*;
use crate::network::sim::{NetworkFaults, SimNetwork};
use crate::network::{Network, SenderLink, Serving, WorkerLink, WorkerService};
use crate::protocol::{OpenChannel, SplitPosition, SplitProgress, frame};
use crate::rows::Rows;
use crate::rows::key::Keys;

mod alignment;
mod failure;
mod flow;

const GROUPS: u16 = 128;
const TOKEN: &str = "secret";
const INCARNATION: &str = "1-abc";

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, false),
        Field::new("source", DataType::Int64, false),
        Field::new("number", DataType::Int64, false),
    ]))
}

/// Rows `numbers` of `source`; the key is the number modulo `keys`.
fn rows(source: i64, numbers: std::ops::Range<i64>, keys: i64) -> Rows {
    let count = (numbers.end - numbers.start) as usize;
    let columns = [
        numbers.clone().map(|n| n % keys).collect::<Int64Array>(),
        Int64Array::from(vec![source; count]),
        numbers.collect::<Int64Array>(),
    ];
    let columns = columns.into_iter().map(|column| Arc::new(column) as _).collect();
    Rows::plain(RecordBatch::try_new(schema(), columns).unwrap())
}

fn column(rows: &Rows, index: usize) -> Vec<i64> {
    rows.batch.column(index).as_primitive::<Int64Type>().values().to_vec()
}

struct Service {
    registry: Arc<Registry>,
}

impl WorkerService for Service {
    fn control(&self, _link: WorkerLink) {}

    fn channel(&self, open: OpenChannel, link: SenderLink) {
        self.registry.opened(&open, link);
    }
}

/// A worker process: its registry and the address of its service.
struct Worker {
    network: Arc<dyn Network>,
    registry: Arc<Registry>,
    process: Process,
    address: String,
    _serving: Serving,
}

impl Worker {
    async fn start(network: &SimNetwork, name: &str) -> Self {
        let registry = Registry::new(INCARNATION, TOKEN);
        let process = Process::new(name, 0);
        let network: Arc<dyn Network> = Arc::new(network.clone());
        let service = Arc::new(Service { registry: Arc::clone(&registry) });
        let at = Arc::clone(&network);
        let serving = process.spawn(async move { at.serve(service).await.unwrap() });
        let serving = serving.await.unwrap();
        let address = serving.address.clone();
        Self { network, registry, process, address, _serving: serving }
    }

    /// The gate of subtask `to` here, reading `sources` on the worker named for each.
    async fn gate(&self, to: u32, edge: u32, sources: &[&Worker]) -> InputGate {
        let input = |(from, worker): (u32, &&Worker)| Input {
            edge,
            from,
            address: (worker.address != self.address).then(|| worker.address.clone()),
            schema: schema(),
        };
        let inputs = (0..).zip(sources).map(input).collect();
        let (network, registry) = (Arc::clone(&self.network), Arc::clone(&self.registry));
        let open = async move {
            InputGate::open(&network, &registry, Generation(1), to, inputs).await.unwrap()
        };
        self.process.spawn(open).await.unwrap()
    }

    async fn output(&self, from: u32, edge: u32, width: u32) -> OutputChannels {
        let edge = OutputEdge { edge, from, width, key_columns: vec![0], key_groups: GROUPS };
        OutputChannels::open(&self.registry, Generation(1), edge).await.unwrap()
    }
}

/// Two workers; a source subtask on each, a destination subtask on each.
struct Pair {
    workers: [Worker; 2],
    gates: Vec<InputGate>,
    outputs: Vec<OutputChannels>,
}

impl Pair {
    async fn start(network: &SimNetwork) -> Self {
        let workers = [Worker::start(network, "a").await, Worker::start(network, "b").await];
        let sources = [&workers[0], &workers[1]];
        let mut gates = Vec::new();
        let mut outputs = Vec::new();
        for (index, worker) in (0..).zip(&workers) {
            gates.push(worker.gate(index, 0, &sources).await);
        }
        for (index, worker) in (0..).zip(&workers) {
            outputs.push(worker.output(index, 0, 2).await);
        }
        Self { workers, gates, outputs }
    }
}

fn owner(key: i64, width: u32) -> u32 {
    let column = Arc::new(Int64Array::from(vec![key])) as _;
    let hash = Keys::encode(&[column], 1).unwrap().hashes()[0];
    let group = KeyGroup::of_hash(hash, GROUPS);
    let owns = |subtask: &u32| KeyGroupRange::of_subtask(*subtask, width, GROUPS).contains(group);
    (0..width).find(owns).unwrap()
}

fn progress(split: u64, time_ms: i64) -> SplitProgress {
    let position =
        SplitPosition { split, position: 1, max_time_ms: time_ms, has_time: true, done: false };
    SplitProgress { splits: vec![position], ..Default::default() }
}
