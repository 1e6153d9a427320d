//! What a simulated job reads, computes and writes, as a pipeline.

use weir_engine::pipeline::spec::{
    AggregateSpec, Emit, EventTimeSpec, FileFormat, SinkFormat, SinkSpec, SourceKind, SourceSpec,
    StepSpec, StoreSpec, TableSpec, TumbleSpec, Verb, WindowSpec,
};

use super::draw::Draw;

/// Windows over the results of windows.
pub(crate) const AGAIN_MS: i64 = 2_000;
/// Groups over the results of groups.
pub(crate) const BUCKETS: i64 = 4;
/// Where ndjson input lies.
pub(crate) const INPUT: &str = "in";

/// Where rows come from. All have a key, a number and a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// `generate.keys`, a millisecond from one to the next.
    Keys,
    /// `generate.sequence`, with a key out of the number.
    Sequence { every_ms: u64 },
    /// So many ndjson files, whose times are out of order by less than this.
    Files { files: u64, disorder_ms: u64 },
}

/// The step over the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Computed {
    Windows {
        window: WindowSpec,
        emit: Option<Emit>,
        lateness_ms: i64,
    },
    /// Running totals by key.
    Totals {
        ttl_ms: Option<i64>,
    },
    /// Nothing: the rows themselves go into a table.
    Latest,
}

/// What stands between that step and the sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    Nothing,
    /// Results with an even count; the halves of updates part.
    Filtered,
    /// Two filters, columns in another order, and a union.
    Halves,
    /// Groups over groups: by bucket, or by key over windows that are written once.
    Stacked,
    /// Windows over windows.
    Again,
}

#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) input: Input,
    pub(crate) events: u64,
    pub(crate) distinct: u64,
    pub(crate) delay_ms: i64,
    /// Rows come on two ways through a union; some twice.
    pub(crate) with_union: bool,
    /// Rows go into a sink of their own too, before they are aggregated.
    pub(crate) with_raw: bool,
    pub(crate) computed: Computed,
    pub(crate) behind: Behind,
    /// Into the sink `out`.
    pub(crate) with_files: bool,
    /// Into the sink `table`, with a snapshot this often; none in it: at the end.
    pub(crate) table: Option<Option<u64>>,
    /// Results name their rows, since late ones may be missing.
    pub(crate) has_late: bool,
}

impl Query {
    /// Any; `one_subtask`: the job has no other.
    pub(crate) fn draw(draw: &mut Draw, one_subtask: bool) -> Self {
        let mut query = Self {
            input: input(draw),
            events: 1_000 + draw.below(4_000),
            distinct: 1 + draw.below(40),
            delay_ms: 0,
            with_union: draw.below(3) == 0,
            with_raw: draw.below(3) == 0,
            computed: computed(draw),
            behind: Behind::Nothing,
            with_files: true,
            table: None,
            has_late: false,
        };
        if one_subtask && draw.below(2) == 0 {
            query.ttl(draw);
        }
        query.be_late(draw);
        query.stack(draw);
        match draw.below(4) {
            _ if query.computed == Computed::Latest => query.with_files = false,
            0 => query.with_files = false,
            1 => {}
            _ => return query,
        }
        query.table = (!query.has_late).then(|| (draw.below(3) > 0).then(|| 100 + draw.below(700)));
        query.with_files |= query.table.is_none();
        query
    }

    /// How late rows may be, and whether some are too late.
    fn be_late(&mut self, draw: &mut Draw) {
        let Input::Files { disorder_ms, .. } = self.input else { return };
        let disorder = disorder_ms.cast_signed();
        match &mut self.computed {
            Computed::Windows { lateness_ms, .. } if disorder > 0 => {
                let (delay, late) = match draw.below(3) {
                    0 => (disorder, 0),
                    1 => (disorder / 2, disorder - disorder / 2),
                    _ => {
                        self.has_late = true;
                        (disorder / 4, disorder / 8)
                    }
                };
                (self.delay_ms, *lateness_ms) = (delay, late);
            }
            _ => self.delay_ms = disorder,
        }
        if self.has_late {
            self.distinct += 10;
        }
    }

    /// A group's life depends on the order of its rows, so they come in order through one subtask.
    fn ttl(&mut self, draw: &mut Draw) {
        if let Input::Files { disorder_ms, .. } = &mut self.input {
            *disorder_ms = 0;
        }
        self.with_union = false;
        let ttl_ms = Some(2 + draw.below(3 * self.distinct).cast_signed());
        self.computed = Computed::Totals { ttl_ms };
    }

    fn stack(&mut self, draw: &mut Draw) {
        let any = draw.below(6);
        if self.has_late || self.has_ttl() || self.computed == Computed::Latest {
            return;
        }
        self.behind = match (any, self.is_changelog()) {
            (0 | 1, _) => Behind::Nothing,
            (2, true) => Behind::Filtered,
            (3, true) => Behind::Halves,
            (2 | 3, false) => Behind::Again,
            _ => Behind::Stacked,
        };
    }

    pub(crate) fn has_ttl(&self) -> bool {
        matches!(self.computed, Computed::Totals { ttl_ms: Some(_) })
    }

    /// Whether the first step's results are revised.
    fn is_changelog(&self) -> bool {
        match self.computed {
            Computed::Windows { emit, .. } => emit == Some(Emit::OnUpdate),
            Computed::Totals { .. } => true,
            Computed::Latest => false,
        }
    }

    /// Whether what comes to the sinks is revised.
    pub(crate) fn gives_changelog(&self) -> bool {
        self.is_changelog() || self.behind == Behind::Stacked
    }

    /// The column by which the last results are told apart, besides their windows.
    pub(crate) fn key(&self) -> &'static str {
        if self.behind == Behind::Stacked && self.is_changelog() { "bucket" } else { "key" }
    }

    /// Whether the last results have windows.
    pub(crate) fn has_windows(&self) -> bool {
        matches!(self.computed, Computed::Windows { .. }) && self.behind != Behind::Stacked
    }

    /// How often an event comes through the filters: through the union, once for each that keeps it.
    pub(crate) fn kept(&self, event: i64) -> usize {
        if self.with_union {
            usize::from(event % 2 == 0) + usize::from(event % 3 == 0)
        } else {
            usize::from(event % 7 != 3)
        }
    }

    /// What it is made of, to be counted over the seeds.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        let mut kinds = vec![match self.input {
            Input::Keys => "reads generate.keys",
            Input::Sequence { .. } => "reads generate.sequence",
            Input::Files { .. } => "reads ndjson",
        }];
        kinds.push(match self.computed {
            Computed::Windows { window: WindowSpec::Tumble(_), .. } => "tumble",
            Computed::Windows { window: WindowSpec::Hop { .. }, .. } => "hop",
            Computed::Windows { window: WindowSpec::Session { .. }, .. } => "session",
            Computed::Totals { .. } => "no window",
            Computed::Latest => "rows into a table",
        });
        match self.computed {
            Computed::Windows { emit: Some(Emit::OnUpdate), .. } => kinds.push("window onUpdate"),
            Computed::Windows { .. } => kinds.push("window onClose"),
            _ => {}
        }
        if matches!(self.computed, Computed::Windows { lateness_ms: 1.., .. }) {
            kinds.push("lateness");
        }
        match (self.behind, self.is_changelog()) {
            (Behind::Nothing, _) => {}
            (Behind::Filtered, _) => kinds.push("filter behind a changelog"),
            (Behind::Halves, _) => kinds.push("union of changelogs"),
            (Behind::Stacked, true) => kinds.push("groups over a changelog"),
            (Behind::Stacked, false) => kinds.push("groups over windows"),
            (Behind::Again, _) => kinds.push("windows over windows"),
        }
        kinds.extend(self.has_ttl().then_some("ttl"));
        kinds.extend(self.with_union.then_some("union"));
        kinds.extend(self.table.is_some().then_some("table"));
        kinds
    }

    /// The steps.
    pub(crate) fn pipeline(&self, rate: Option<u64>) -> Vec<StepSpec> {
        let mut steps = self.source(rate);
        self.keep(&mut steps);
        steps.extend(self.with_raw.then(|| files("raw", "kept")));
        self.compute(&mut steps);
        self.stack_up(&mut steps);
        if self.with_files {
            steps.push(files("out", "results"));
        }
        if let Some(every_ms) = self.table {
            let mut key = vec![self.key().to_owned()];
            key.extend(self.has_windows().then(|| "window_start".to_owned()));
            let table = TableSpec {
                uri: "table".to_owned(),
                key,
                format: SinkFormat::Ndjson,
                every_ms,
                store: StoreSpec::default(),
            };
            steps.push(step("table", &["results"], Verb::Sink(SinkSpec::Table(table))));
        }
        steps
    }

    fn source(&self, rate: Option<u64>) -> Vec<StepSpec> {
        let count = Some(self.events);
        let kind = match self.input {
            Input::Keys => {
                SourceKind::Keys { count, distinct: self.distinct, value_bytes: 4, skew_milli: 0 }
            }
            Input::Sequence { every_ms } => SourceKind::Sequence { count, every_ms },
            Input::Files { .. } => {
                let columns = [("key", "string"), ("seq", "int64"), ("time", "timestamp")];
                let column = |(name, kind): (&str, &str)| (name.to_owned(), kind.to_owned());
                SourceKind::Files {
                    uri: INPUT.to_owned(),
                    format: Some(FileFormat::Ndjson),
                    schema: Some(columns.map(column).to_vec()),
                    store: StoreSpec::default(),
                }
            }
        };
        let column = matches!(self.input, Input::Files { .. }).then(|| "time".to_owned());
        let event_time = Some(EventTimeSpec { column, delay_ms: self.delay_ms });
        let read = SourceSpec { kind, rate, event_time };
        let id = if matches!(self.input, Input::Sequence { .. }) { "numbers" } else { "events" };
        let mut steps = vec![step(id, &[], Verb::Source(read))];
        if id == "numbers" {
            let key = format!("cast(seq % {} as varchar) as key", self.distinct);
            steps.push(select("events", "numbers", &[&key, "seq", "time"]));
        }
        steps
    }

    fn keep(&self, steps: &mut Vec<StepSpec>) {
        if !self.with_union {
            steps.push(filter("some", "events", "seq % 7 <> 3"));
            steps.push(select("kept", "some", &["key", "seq", "time"]));
            return;
        }
        steps.push(filter("even", "events", "seq % 2 = 0"));
        steps.push(filter("third", "events", "seq % 3 = 0"));
        steps.push(select("left", "even", &["key", "seq", "time"]));
        steps.push(select("right", "third", &["seq", "key", "time"]));
        steps.push(step("kept", &["left", "right"], Verb::Union));
    }

    fn compute(&self, steps: &mut Vec<StepSpec>) {
        let mut values = vec![
            "count(*) as n",
            "sum(seq) as total",
            "min(seq) as least",
            "max(seq) as most",
            "avg(seq) as mean",
        ];
        values.extend(self.has_late.then_some("array_agg(seq) as rows"));
        let mut spec = aggregate("key", &values);
        match self.computed {
            Computed::Latest => {
                steps.push(filter("results", "kept", "seq >= 0"));
                return;
            }
            Computed::Windows { window, emit, lateness_ms } => {
                (spec.window, spec.emit, spec.lateness_ms) = (Some(window), emit, lateness_ms);
            }
            Computed::Totals { ttl_ms } => spec.ttl_ms = ttl_ms,
        }
        let id = if self.behind == Behind::Nothing { "results" } else { "counts" };
        steps.push(step(id, &["kept"], Verb::Aggregate(spec)));
    }

    fn stack_up(&self, steps: &mut Vec<StepSpec>) {
        let sums = [
            "sum(n) as n",
            "sum(total) as total",
            "min(least) as least",
            "max(most) as most",
            "avg(n) as mean",
        ];
        match self.behind {
            Behind::Nothing => {}
            Behind::Filtered => steps.push(filter("results", "counts", "n % 2 = 0")),
            Behind::Halves => {
                let windows: &[&str] =
                    if self.has_windows() { &["window_start", "window_end"] } else { &[] };
                let straight = ["key", "n", "total", "least", "most", "mean"];
                let turned = ["mean", "most", "least", "total", "n", "key"];
                steps.push(filter("few", "counts", "n % 3 = 0"));
                steps.push(filter("many", "counts", "n % 3 <> 0"));
                steps.push(select("one", "few", &[&straight, windows].concat()));
                steps.push(select("other", "many", &[windows, &turned].concat()));
                steps.push(step("results", &["one", "other"], Verb::Union));
            }
            Behind::Stacked if self.is_changelog() => {
                let bucket = format!("n % {BUCKETS} as bucket");
                steps.push(select("by", "counts", &[&bucket, "n", "total", "least", "most"]));
                let spec = aggregate("bucket", &sums);
                steps.push(step("results", &["by"], Verb::Aggregate(spec)));
            }
            Behind::Stacked => {
                let spec = aggregate("key", &sums);
                steps.push(step("results", &["counts"], Verb::Aggregate(spec)));
            }
            Behind::Again => {
                let mut spec = aggregate("key", &sums);
                let tumble = TumbleSpec { size_ms: AGAIN_MS, offset_ms: 0 };
                spec.window = Some(WindowSpec::Tumble(tumble));
                steps.push(step("results", &["counts"], Verb::Aggregate(spec)));
            }
        }
    }
}

fn input(draw: &mut Draw) -> Input {
    match draw.below(5) {
        0 | 1 => Input::Keys,
        2 => Input::Sequence { every_ms: 1 + draw.below(3) },
        _ => {
            let disorder_ms = [0, 40, 400][usize::try_from(draw.below(3)).expect("small")];
            Input::Files { files: 1 + draw.below(7), disorder_ms }
        }
    }
}

fn computed(draw: &mut Draw) -> Computed {
    let pick = |draw: &mut Draw, of: [i64; 3]| of[usize::try_from(draw.below(3)).expect("small")];
    let size_ms = pick(draw, [100, 250, 1_000]);
    let offset_ms = draw.below(50).cast_signed();
    let window = match draw.below(9) {
        0 | 1 => WindowSpec::Tumble(TumbleSpec { size_ms, offset_ms }),
        2 | 3 => {
            let every_ms = size_ms / pick(draw, [2, 3, 4]);
            WindowSpec::Hop { size_ms, every_ms, offset_ms }
        }
        4 | 5 => WindowSpec::Session { gap_ms: pick(draw, [3, 10, 50]) },
        6 | 7 => return Computed::Totals { ttl_ms: None },
        _ => return Computed::Latest,
    };
    let emit = [None, Some(Emit::OnClose), Some(Emit::OnUpdate), Some(Emit::OnUpdate)];
    let emit = emit[usize::try_from(draw.below(4)).expect("small")];
    Computed::Windows { window, emit, lateness_ms: 0 }
}

fn step(id: &str, from: &[&str], verb: Verb) -> StepSpec {
    let from = from.iter().map(|step| (*step).to_owned()).collect();
    StepSpec { id: id.to_owned(), from, verb }
}

fn filter(id: &str, from: &str, keep: &str) -> StepSpec {
    step(id, &[from], Verb::Filter(keep.to_owned()))
}

fn select(id: &str, from: &str, items: &[&str]) -> StepSpec {
    let items = items.iter().map(|item| (*item).to_owned()).collect();
    step(id, &[from], Verb::Select(items))
}

fn aggregate(key: &str, values: &[&str]) -> AggregateSpec {
    AggregateSpec {
        key: vec![key.to_owned()],
        window: None,
        values: values.iter().map(|value| (*value).to_owned()).collect(),
        lateness_ms: 0,
        emit: None,
        ttl_ms: None,
    }
}

/// A sink into the folder of its own name.
fn files(id: &str, from: &str) -> StepSpec {
    let files = SinkSpec::Files {
        uri: id.to_owned(),
        format: SinkFormat::Ndjson,
        store: StoreSpec::default(),
    };
    step(id, &[from], Verb::Sink(files))
}
