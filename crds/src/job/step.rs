//! A step of the pipeline: its id, what it reads, its verb.

use std::borrow::Cow;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{NoFields, SinkSpec, SourceSpec};
use crate::columns::COLUMN_BYTES_MAX;
use crate::rule::{AT_LEAST_1MS, EVERY_WITHIN_SIZE, OFFSET_BELOW_EVERY, OFFSET_BELOW_TUMBLE};
use crate::units::Duration;

/// Bytes of an expression.
pub(crate) const EXPRESSION_BYTES_MAX: usize = 4_096;

/// A step: an id, the steps it reads, and exactly one verb.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.source), has(self.filter), has(self.select), has(self.union), \
     has(self.aggregate), has(self.sink)].filter(v, v).size() == 1")
    .message("a step has exactly one verb: source, filter, select, union, aggregate or sink"))]
#[schemars(extend("x-weir" = "step"))]
pub struct StepSpec {
    /// Name of the step: a letter, then lower-case letters, digits and _; at most 40 characters,
    /// unique. It names the state, the metrics and the node in every picture.
    #[schemars(regex(pattern = r"^[a-z][a-z0-9_]*$"), length(min = 1, max = 40), extend("x-weir" = "id"))]
    pub id: String,

    /// The step that this one reads, or a list of steps for a union; none for a source.
    #[serde(default, skip_serializing_if = "Inputs::is_empty")]
    pub from: Inputs,

    /// Reads rows from outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceSpec>,

    /// Keeps the rows for which this SQL expression is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Expression>")]
    pub filter: Option<String>,

    /// Projects to these SQL select items, in their order: origin, dep_delay - 15 as late, "*",
    /// "* except (a, b)".
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<Expression>>", length(min = 1, max = 1024))]
    pub select: Option<Vec<String>>,

    /// The rows of all steps in `from`, which have the same columns and types in any order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub union: Option<NoFields>,

    /// One row per group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<AggregateSpec>,

    /// Writes rows to the outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink: Option<SinkSpec>,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verb<'a> {
    /// Reads rows from outside.
    Source(&'a SourceSpec),
    /// Keeps rows.
    Filter(&'a str),
    /// Projects.
    Select(&'a [String]),
    /// Rows of several steps.
    Union,
    /// One row per group.
    Aggregate(&'a AggregateSpec),
    /// Writes rows to the outside.
    Sink(&'a SinkSpec),
}

impl StepSpec {
    /// The step's verb; of a step that [`crate::read_manifest`] gave there is exactly one.
    #[must_use]
    pub fn verb(&self) -> Option<Verb<'_>> {
        let verbs = [
            self.source.as_ref().map(Verb::Source),
            self.filter.as_deref().map(Verb::Filter),
            self.select.as_deref().map(Verb::Select),
            self.union.as_ref().map(|_| Verb::Union),
            self.aggregate.as_ref().map(Verb::Aggregate),
            self.sink.as_ref().map(Verb::Sink),
        ];
        verbs.into_iter().flatten().next()
    }
}

/// Schema of a SQL expression or select item.
struct Expression;

impl JsonSchema for Expression {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Expression".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": EXPRESSION_BYTES_MAX,
            "x-weir": "expression",
        })
    }
}

/// Schema of a column's name.
pub(super) struct ColumnName;

impl JsonSchema for ColumnName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ColumnName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": COLUMN_BYTES_MAX,
            "x-weir": "column",
        })
    }
}

/// The steps that a step reads: written as one id, or as a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs(pub Vec<String>);

impl Inputs {
    /// Whether nothing is read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Inputs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            One(String),
            Many(Vec<String>),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::One(id) => Self(vec![id]),
            Written::Many(ids) => Self(ids),
        })
    }
}

impl JsonSchema for Inputs {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Inputs".into()
    }

    /// A structural schema has no "text or list", so an API server takes anything here and CEL
    /// cannot see it; the reader of manifests and the operator look closer.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-preserve-unknown-fields": true, "x-weir": "inputs"})
    }
}

/// One row per group: columns of the key, with a window `window_start` and `window_end`, then the
/// values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.window) || !has(self.emit) || self.emit == 'onUpdate'")
        .message("without a window the only choice of emit is onUpdate"),
    validation = Rule::new("has(self.window) || !self.lateness.matches('[1-9]')")
        .message("lateness is for aggregates with a window"),
    validation = Rule::new("!has(self.window) || !has(self.ttl)")
        .message("ttl is for aggregates without a window")
)]
#[schemars(extend("x-weir" = "aggregate"))]
pub struct AggregateSpec {
    /// Columns of the group's key, at most 32. Absent: one global group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<ColumnName>", length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub key: Vec<String>,

    /// The windows in which rows are grouped by event time. Absent: all rows of a key are one group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowSpec>,

    /// Select items of aggregates: count(*) as flights, sum(a) / count(*) as mean.
    #[schemars(with = "Vec<Expression>", length(min = 1, max = 1024))]
    pub values: Vec<String>,

    /// When results are written. Absent: onClose with a window, onUpdate without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emit: Option<Emit>,

    /// How long after its end a window still takes rows.
    #[serde(default = "super::no_time")]
    pub lateness: Duration,

    /// How long after its last row a group without a window is kept, in event time where rows have
    /// it; at least 1ms. Absent: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-weir-min" = "1ms"))]
    #[x_kube(validation = Rule::new(AT_LEAST_1MS).message("ttl is at least 1ms"))]
    pub ttl: Option<Duration>,
}

/// When an aggregate writes results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Emit {
    /// Once, when the window closes.
    OnClose,
    /// At every change, as a changelog.
    OnUpdate,
}

/// Windows [start, end): exactly one of `tumble`, `hop` and `session`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "[has(self.tumble), has(self.hop), has(self.session)].filter(v, v).size() == 1")
        .message("a window is exactly one of tumble, hop and session"),
    validation = Rule::new(OFFSET_BELOW_TUMBLE).message("offset is shorter than tumble"),
    validation = Rule::new(OFFSET_BELOW_EVERY).message("offset is shorter than hop.every")
)]
#[schemars(extend("x-weir" = "window"))]
pub struct WindowSpec {
    /// Length of windows that follow each other, aligned to 1970-01-01T00:00Z; at least 1ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-weir-min" = "1ms"))]
    #[x_kube(validation = Rule::new(AT_LEAST_1MS).message("tumble is at least 1ms"))]
    pub tumble: Option<Duration>,

    /// Windows that overlap, aligned to 1970-01-01T00:00Z.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hop: Option<HopSpec>,

    /// Rows of a key are in one window as long as no two neighbours are further apart than this;
    /// the window ends this long after its last row. At least 1ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-weir-min" = "1ms"))]
    #[x_kube(validation = Rule::new(AT_LEAST_1MS).message("session is at least 1ms"))]
    pub session: Option<Duration>,

    /// Shifts the windows; shorter than `tumble` or `hop.every`. Sessions are where their rows are
    /// and do not move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<Duration>,
}

/// Windows that overlap; a row is in each that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(EVERY_WITHIN_SIZE).message("every is at most size"))]
#[schemars(extend("x-weir" = "hop"))]
pub struct HopSpec {
    /// Length of a window; at least 1ms.
    #[schemars(extend("x-weir-min" = "1ms"))]
    #[x_kube(validation = Rule::new(AT_LEAST_1MS).message("size is at least 1ms"))]
    pub size: Duration,

    /// From the start of a window to the start of the next; at least 1ms and at most `size`.
    #[schemars(extend("x-weir-min" = "1ms"))]
    #[x_kube(validation = Rule::new(AT_LEAST_1MS).message("every is at least 1ms"))]
    pub every: Duration,
}
