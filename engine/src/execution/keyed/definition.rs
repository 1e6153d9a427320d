//! What a keyed step is: its key, window, values, and the columns of its results.

use arrow::datatypes::{FieldRef, SchemaRef};
use bytes::Bytes;
use weir_expr::Aggregates;
use weir_state::StateError;
use weir_state::key::StateId;

use super::unit::Joining;
use crate::execution::error::StageError;
use crate::execution::names::key_text;
use crate::execution::window::{Aligned, SessionRules, WATERMARK_END, WindowRules};
use crate::pipeline::checked::{CheckedAggregate, CheckedStep};
use crate::pipeline::spec::Emit;
use crate::rows::key::decode_keys;

/// The state that holds values.
pub(crate) const VALUES: StateId = StateId(0);

/// Into which values the rows of a key go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// One for each window.
    Aligned(Aligned),
    /// One that holds all open sessions.
    Session(SessionRules),
    /// One.
    Group(GroupRules),
}

/// A group without a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupRules {
    /// How long after its last write it is kept.
    pub(crate) ttl_ms: Option<i64>,
    /// Whether rows have event time, by which its age is counted; else the clock's.
    pub(crate) has_time: bool,
}

/// A checked aggregate step, ready to run.
pub(crate) struct Definition {
    /// Index of the step in the job.
    pub(crate) step: usize,
    /// Its id.
    pub(crate) id: String,
    /// Columns of its key in its input.
    pub(crate) key: Vec<usize>,
    /// Its windows, or none.
    pub(crate) shape: Shape,
    /// When results are written.
    pub(crate) emit: Emit,
    /// Its values.
    pub(crate) aggregates: Aggregates,
    /// Columns of its results.
    pub(crate) schema: SchemaRef,
    /// Whether its results have event time.
    pub(crate) has_time: bool,
    /// Whether rows of its input may be taken back.
    pub(crate) retracts: bool,
    /// Key groups of the job.
    pub(crate) groups: u16,
    window: Option<WindowRules>,
}

impl Definition {
    /// Of the step with index `step`.
    pub(crate) fn new(
        step: usize,
        checked: &CheckedStep,
        aggregate: &CheckedAggregate,
        groups: u16,
    ) -> Self {
        let window = aggregate.window.as_ref();
        let window = window.map(|window| WindowRules::new(window, aggregate.lateness_ms));
        let shape = match window {
            Some(WindowRules::Aligned(rules)) => Shape::Aligned(rules),
            Some(WindowRules::Session(rules)) => Shape::Session(rules),
            None => Shape::Group(GroupRules {
                ttl_ms: aggregate.ttl_ms,
                has_time: aggregate.input_has_time,
            }),
        };
        Self {
            step,
            id: checked.id.clone(),
            key: aggregate.key.clone(),
            shape,
            emit: aggregate.emit,
            aggregates: aggregate.aggregates.clone(),
            schema: SchemaRef::clone(&checked.schema),
            has_time: checked.has_time,
            retracts: aggregate.input_changelog,
            groups,
            window,
        }
    }

    /// Whether results have the columns of a window.
    pub(crate) fn has_window(&self) -> bool {
        self.window.is_some()
    }

    /// Columns of the key in the results.
    pub(crate) fn key_fields(&self) -> &[FieldRef] {
        &self.schema.fields()[..self.key.len()]
    }

    /// How rows of one value that waited are put together.
    pub(crate) fn joining(&self) -> Joining<'_> {
        match self.shape {
            Shape::Aligned(_) | Shape::Group(GroupRules { ttl_ms: None, .. }) => {
                Joining::Folded(&self.aggregates)
            }
            Shape::Session(_) | Shape::Group(_) => Joining::InOrder,
        }
    }

    /// Whether a timer's value may have rows in flight: it is touched only while its key is held.
    pub(crate) fn fires_by_key(&self) -> bool {
        !matches!(self.shape, Shape::Aligned(_))
    }

    /// Up to which time timers are due at `watermark`; none: no timer goes by watermarks.
    pub(crate) fn due_at(&self, watermark: i64) -> Option<i64> {
        match self.shape {
            Shape::Aligned(_) | Shape::Session(_) => Some(watermark),
            // What is left when all is over need not be taken away.
            Shape::Group(GroupRules { ttl_ms: Some(_), has_time: true }) => {
                (watermark < WATERMARK_END).then_some(watermark)
            }
            Shape::Group(_) => None,
        }
    }

    /// Whether timers go by the clock.
    pub(crate) fn goes_by_clock(&self) -> bool {
        matches!(self.shape, Shape::Group(GroupRules { ttl_ms: Some(_), has_time: false }))
    }

    /// What is forwarded once everything up to `watermark` is written.
    pub(crate) fn forwarded(&self, watermark: i64) -> i64 {
        self.window.as_ref().map_or(watermark, |window| window.forwarded(watermark))
    }

    /// A state access failed.
    pub(crate) fn state_error(&self, what: &'static str, cause: StateError) -> StageError {
        StageError::State { step: self.id.clone(), what, cause }
    }

    /// A stored value is not one of ours.
    pub(crate) fn value_error(&self, key: &Bytes, error: &dyn std::fmt::Display) -> StageError {
        StageError::StateValue {
            step: self.id.clone(),
            key: self.key_text(key),
            message: error.to_string(),
        }
    }

    /// The values of a key's columns, for messages.
    pub(crate) fn key_text(&self, key: &Bytes) -> String {
        match decode_keys(std::slice::from_ref(key), self.key_fields()) {
            Ok(columns) => key_text(&columns, 0),
            Err(error) => format!("{key:?} ({error})"),
        }
    }
}
