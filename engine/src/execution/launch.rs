//! Starts the stage tasks of one generation on one worker.

use std::sync::Arc;
use std::time::Duration;

use weir_runtime::task;
use weir_state::StateError;
use weir_state::ids::{CheckpointId, Generation, KeyGroupRange};
use weir_state::names::ObjectNamer;
use weir_state::shard::{Shard, ShardSpec};
use weir_state::store::StateStore;
use weir_state::version::Version;
use weir_state::version::record::VersionRecord;

use super::alignment::Alignment;
use super::chain::{Chain, SinkLeaf};
use super::context::Context;
use super::counters::{Board, Counters, WatermarkGauge};
use super::error::StageError;
use super::keyed::Keyed;
use super::keyed::definition::Definition;
use super::keyed::operator::Operator;
use super::keyed::task::{Inputs, KeyedTask, Outlet};
use super::marks::{EdgeMark, Marks};
use super::names::RowNames;
use super::orders::{Barriers, OrdersReceiver, ReportSender, TaskId};
use super::source::SourceTask;
use super::stage_task::StageTask;
use super::table::TableTask;
use super::table::fold::Columns;
use super::table::snapshot::Snapshots;
use super::tail::{SinkEnd, Tail};
use super::window::WATERMARK_NONE;
use crate::exchange::{
    ExchangeError, Input, InputGate, MinWatermark, OutputChannels, OutputEdge, Registry,
    SourceWatermark,
};
use crate::network::Network;
use crate::objects::Objects;
use crate::pipeline::checked::{CheckedJob, CheckedStep, CheckedTable, CheckedVerb};
use crate::pipeline::graph::{Graph, Head, Stage};
use crate::pipeline::spec::{JobSpec, TableSpec};
use crate::protocol::{RangeWatermark, SourcePositions};
use crate::sink::files::FileEncoder;
use crate::sink::{self, SinkError, StateFolder, WriterId};
use crate::source::Source;
use crate::source::dealing::SourceTaskState;
use crate::source::pacing::Pacing;

/// Everything that the tasks of a generation are made from.
pub(crate) struct Blueprint {
    pub(crate) generation: Generation,
    /// The incarnation's short id.
    pub(crate) run: String,
    /// This process's incarnation.
    pub(crate) worker: String,
    /// Subtasks of each stage.
    pub(crate) width: u32,
    /// Key groups.
    pub(crate) groups: u16,
    /// Address of each subtask's worker; none: this worker.
    pub(crate) peers: Vec<Option<String>>,
    pub(crate) restored: Restored,
    pub(crate) namer: ObjectNamer,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) failover: Duration,
    pub(crate) registry: Arc<Registry>,
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) state: StateFolder,
    pub(crate) store: Arc<StateStore>,
    /// By their number in origins: id and source.
    pub(crate) sources: Vec<(String, Source)>,
    pub(crate) spec: JobSpec,
    pub(crate) job: CheckedJob,
    pub(crate) graph: Graph,
}

/// The checkpoint that a generation starts from.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    pub(crate) checkpoint: CheckpointId,
    pub(crate) sources: Vec<SourcePositions>,
    pub(crate) versions: Vec<VersionRecord>,
    pub(crate) watermarks: Vec<RangeWatermark>,
}

impl Restored {
    /// The watermark that `range` of `step` has passed. Barriers are aligned, so all ranges of a
    /// step have passed the same one; were they not the same, no window may be written twice.
    fn watermark(&self, step: &str, range: KeyGroupRange) -> i64 {
        let overlaps = |passed: &&RangeWatermark| {
            passed.step == step
                && passed.group_start < u32::from(range.end)
                && u32::from(range.start) < passed.group_end
        };
        let passed = self.watermarks.iter().filter(overlaps).map(|passed| passed.watermark_ms);
        passed.max().unwrap_or(WATERMARK_NONE)
    }

    fn positions(&self, step: &str) -> SourcePositions {
        self.sources.iter().find(|positions| positions.step == step).cloned().unwrap_or_default()
    }
}

/// Why a stage can't be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// A shard can't be opened.
    #[error("{step}: cannot open the state of key groups {range}")]
    State {
        /// Step.
        step: String,
        /// Key groups.
        range: KeyGroupRange,
        /// Cause.
        #[source]
        cause: Box<StateError>,
    },
    /// A sink can't be opened.
    #[error(transparent)]
    Sink(Box<SinkError>),
}

/// The ends of the lines that tasks hold.
pub(crate) struct Lines {
    pub(crate) orders: OrdersReceiver,
    pub(crate) reports: ReportSender,
}

/// What was started.
pub(crate) struct Launched {
    pub(crate) tasks: Vec<StageTask>,
    pub(crate) board: Board,
}

/// A stage's tail without its edges, which its task opens.
struct TailPlan {
    head: String,
    chain: Chain,
    sinks: Vec<SinkEnd>,
    edges: Vec<OutputEdge>,
    counters: Arc<Counters>,
}

/// What a task needs to open its channels.
#[derive(Clone)]
struct Wires {
    network: Arc<dyn Network>,
    registry: Arc<Registry>,
    generation: Generation,
    subtask: u32,
}

impl TailPlan {
    async fn open(self, wires: &Wires) -> Result<Tail, StageError> {
        let mut edges = Vec::with_capacity(self.edges.len());
        for edge in self.edges {
            let opened = OutputChannels::open(&wires.registry, wires.generation, edge).await;
            edges.push(opened.map_err(|cause| StageError::exchange(&self.head, cause))?);
        }
        Ok(Tail::new(self.head, self.chain, self.sinks, edges, self.counters))
    }
}

impl Blueprint {
    /// Starts a task for every stage and each of the subtasks `own`.
    ///
    /// Errors: state or a sink can't be opened; nothing runs then.
    pub(crate) fn launch(&self, own: &[u32], lines: &Lines) -> Result<Launched, LaunchError> {
        let mut board = Board::new(Arc::clone(&self.store));
        let mut tasks = Vec::new();
        for (number, stage) in (0..).zip(&self.graph.stages) {
            for subtask in own {
                let id = TaskId { stage: number, subtask: *subtask };
                let steps = self.job.steps.iter().map(|step| step.id.clone());
                let counters = Arc::new(Counters::new(steps));
                board.add_task(Arc::clone(&counters));
                let (orders, reports) = (lines.orders.clone(), lines.reports.clone());
                let context = Context::new(id, orders, reports, counters);
                let step = self.job.steps[stage.step].id.clone();
                let task = match stage.head {
                    Head::Source => self.source(stage, context)?,
                    Head::Keyed => self.with_state(stage, context, &mut board)?,
                };
                tasks.push(StageTask { id, step, task });
            }
        }
        Ok(Launched { tasks, board })
    }

    fn wires(&self, subtask: u32) -> Wires {
        Wires {
            network: Arc::clone(&self.network),
            registry: Arc::clone(&self.registry),
            generation: self.generation,
            subtask,
        }
    }

    fn source(
        &self,
        stage: &Stage,
        context: Context,
    ) -> Result<task::Task<StageError>, LaunchError> {
        let subtask = context.id().subtask;
        let step = &self.job.steps[stage.step];
        let number = self.sources.iter().position(|(id, _)| *id == step.id);
        let source = self.sources[number.unwrap_or_default()].1.clone();
        let rate = match &step.verb {
            CheckedVerb::Source(checked) => checked.rate,
            _ => None,
        };
        let splits = source.splits();
        let pacing = rate.map(|rate| Pacing::new(rate, self.width, &splits));
        let positions = self.restored.positions(&step.id);
        let state = SourceTaskState::new(&step.id, splits, subtask, self.width, &positions);
        let tail = self.tail(stage, &context)?;
        let wires = self.wires(subtask);
        let place = stage.step;
        let barriers = Barriers::after(self.restored.checkpoint);
        Ok(task::spawn(async move {
            let tail = match tail.open(&wires).await {
                Ok(tail) => tail,
                Err(error) => return error,
            };
            let task = SourceTask {
                context,
                step: place,
                source,
                state,
                pacing,
                barriers,
                paused: None,
                is_held: false,
                tail,
            };
            Box::pin(task.run()).await
        }))
    }

    /// The task of a head with keyed state.
    fn with_state(
        &self,
        stage: &Stage,
        context: Context,
        board: &mut Board,
    ) -> Result<task::Task<StageError>, LaunchError> {
        let step = &self.job.steps[stage.step];
        let order = self.spec.order;
        match &step.verb {
            CheckedVerb::Table(table) => self.table(stage, table, context),
            CheckedVerb::Aggregate(aggregate) => {
                let definition = Definition::new(stage.step, step, aggregate, self.groups);
                let aggregate = |shard, passed| Keyed::new(definition, shard, order, passed);
                self.keyed(stage, context, board, aggregate)
            }
            _ => unreachable!("the graph makes only steps with state keyed heads"),
        }
    }

    fn keyed<O: Operator>(
        &self,
        stage: &Stage,
        context: Context,
        board: &mut Board,
        operator: impl FnOnce(Shard, i64) -> O,
    ) -> Result<task::Task<StageError>, LaunchError> {
        let subtask = context.id().subtask;
        let step = &self.job.steps[stage.step];
        let shard = self.shard(&step.id, subtask)?;
        let watermark = self.restored.watermark(&step.id, shard.range());
        let gauge = Arc::new(WatermarkGauge::new(watermark));
        board.add_watermark(&step.id, shard.range(), Arc::clone(&gauge));
        let keyed = operator(shard, watermark);
        let inputs = self.inputs(stage);
        let alignment = Alignment::new(inputs.len(), self.restored.checkpoint);
        let of_step = stage.inputs.iter().map(|edge| self.graph.edges[*edge].input);
        let of_step = of_step.flat_map(|input| std::iter::repeat_n(input, self.width as usize));
        let progress = Inputs::new(alignment, self.marks(stage), of_step.collect());
        let names = self.names(subtask);
        let tail = self.tail(stage, &context)?;
        let wires = self.wires(subtask);
        Ok(task::spawn(async move {
            // The gate first: whoever sends to this stage waits for it.
            let gate = match open_gate(&wires, inputs).await {
                Ok(gate) => gate,
                Err(cause) => return StageError::exchange(&tail.head, cause),
            };
            let tail = match tail.open(&wires).await {
                Ok(tail) => tail,
                Err(error) => return error,
            };
            let outlet = Outlet::new(watermark);
            let inputs = progress;
            let task = KeyedTask { context, keyed, gate, tail, names, gauge, inputs, outlet };
            Box::pin(task.run()).await
        }))
    }

    fn table(
        &self,
        stage: &Stage,
        table: &CheckedTable,
        context: Context,
    ) -> Result<task::Task<StageError>, LaunchError> {
        let subtask = context.id().subtask;
        let checked = &self.job.steps[stage.step];
        let is_table = |step: &CheckedStep| matches!(step.verb, CheckedVerb::Table(_));
        let before = self.job.steps[..stage.step].iter().filter(|step| is_table(step)).count();
        let snapshots = self.snapshots(table, checked, subtask)?;
        let shard = self.shard(&checked.id, subtask)?;
        let inputs = self.inputs(stage);
        let alignment = Alignment::new(inputs.len(), self.restored.checkpoint);
        let (open, wires, names) = (inputs.len(), self.wires(subtask), self.names(subtask));
        let (step, groups, changelog) = (stage.step, self.groups, checked.changelog);
        let forgets = self.job.forgets(stage.step);
        Ok(task::spawn(async move {
            let gate = match open_gate(&wires, inputs).await {
                Ok(gate) => gate,
                Err(cause) => return StageError::exchange(&snapshots.writer.step, cause),
            };
            let task = TableTask {
                context,
                step,
                number: place(before),
                changelog,
                forgets,
                groups,
                shard,
                gate,
                alignment,
                snapshots,
                names,
                open,
                cutting: None,
            };
            Box::pin(task.run()).await
        }))
    }

    fn snapshots(
        &self,
        table: &CheckedTable,
        step: &CheckedStep,
        subtask: u32,
    ) -> Result<Snapshots, LaunchError> {
        let failed = |error| LaunchError::Sink(Box::new(error));
        let TableSpec { uri, format, store, .. } = &table.spec;
        let folder = sink::open_folder(&step.id, uri, store, self.objects.as_ref());
        let encoder = FileEncoder::new(*format, &step.schema, false);
        let bad = |what| SinkError::Value { step: step.id.clone(), what };
        Ok(Snapshots {
            writer: self.writer(&step.id, subtask, 0),
            uri: uri.clone(),
            folder: folder.map_err(failed)?,
            format: *format,
            encoder: encoder.map_err(|what| failed(bad(what)))?,
            schema: Arc::clone(&step.schema),
            columns: Columns::new(&step.schema),
            key: table.key.clone(),
        })
    }

    fn writer(&self, step: &str, subtask: u32, part: u32) -> WriterId {
        WriterId {
            step: step.to_owned(),
            run: self.run.clone(),
            generation: self.generation,
            subtask,
            part,
            worker: self.worker.clone(),
        }
    }

    fn shard(&self, step: &str, subtask: u32) -> Result<Shard, LaunchError> {
        let range = KeyGroupRange::of_subtask(subtask, self.width, self.groups);
        let failed = |cause| {
            let cause = Box::new(cause);
            LaunchError::State { step: step.to_owned(), range, cause }
        };
        let version = Version::restore(step, range, &self.restored.versions).map_err(failed)?;
        let spec = ShardSpec { step: step.to_owned(), range, namer: self.namer.clone() };
        Shard::open(&self.store, spec, version).map_err(failed)
    }

    fn names(&self, subtask: u32) -> Arc<RowNames> {
        Arc::new(RowNames::new(self.sources.clone(), subtask))
    }

    fn inputs(&self, stage: &Stage) -> Vec<Input> {
        let channel = |edge: usize, from: u32| Input {
            edge: place(edge),
            from,
            address: self.peers[from as usize].clone(),
            schema: Arc::clone(&self.graph.edges[edge].schema),
        };
        let edges = stage.inputs.iter();
        edges.flat_map(|edge| (0..self.width).map(move |from| channel(*edge, from))).collect()
    }

    fn marks(&self, stage: &Stage) -> Marks {
        let mark = |edge: &usize| {
            let from = self.graph.edges[*edge].from;
            match &self.job.steps[self.graph.stages[from].step].verb {
                CheckedVerb::Source(source) => {
                    let delay = source.event_time.map_or(0, |time| time.delay_ms);
                    EdgeMark::Source(SourceWatermark::new(self.width, delay))
                }
                _ => EdgeMark::Keyed(MinWatermark::new(self.width as usize)),
            }
        };
        Marks::new(stage.inputs.iter().map(mark).collect(), self.width as usize)
    }

    fn tail(&self, stage: &Stage, context: &Context) -> Result<TailPlan, LaunchError> {
        let subtask = context.id().subtask;
        let counters = Arc::clone(context.counters());
        let names = self.names(subtask);
        let (chain, sinks, edges) = Chain::new(&self.job, stage, Arc::clone(&counters), names);
        let sinks = sinks.iter().map(|leaf| self.sink(*leaf, subtask));
        let sinks = sinks.collect::<Result<Vec<_>, _>>()?;
        let edges = edges.iter().map(|edge| OutputEdge {
            edge: place(*edge),
            from: subtask,
            width: self.width,
            key_columns: self.graph.edges[*edge].key.clone(),
            key_groups: self.groups,
        });
        let head = self.job.steps[stage.step].id.clone();
        Ok(TailPlan { head, chain, sinks, edges: edges.collect(), counters })
    }

    fn sink(&self, leaf: SinkLeaf, subtask: u32) -> Result<SinkEnd, LaunchError> {
        let SinkLeaf { step, part } = leaf;
        let checked = &self.job.steps[step];
        let CheckedVerb::Sink(spec) = &checked.verb else {
            unreachable!("the graph ends in a sink leaf only at sinks");
        };
        let writer = self.writer(&checked.id, subtask, part);
        let objects = self.objects.as_ref();
        let (schema, changelog) = (&checked.schema, checked.changelog);
        let writer = sink::open(spec, writer, schema, changelog, objects, &self.state);
        Ok(SinkEnd { step, writer: writer.map_err(|error| LaunchError::Sink(Box::new(error)))? })
    }
}

async fn open_gate(wires: &Wires, inputs: Vec<Input>) -> Result<InputGate, ExchangeError> {
    let Wires { network, registry, generation, subtask } = wires;
    InputGate::open(network, registry, *generation, *subtask, inputs).await
}

fn place(index: usize) -> u32 {
    u32::try_from(index).expect("a job has at most a few hundred edges")
}
