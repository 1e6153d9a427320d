//! SQL expressions and aggregates over Arrow batches, checked when a job is accepted.
//!
//! The only crate that knows DataFusion, and its public interface speaks Arrow alone.
//!
//! # Where things are
//!
//! - `types.rs` — pipeline types (`int64`, `list<string>`, …) and their Arrow types. Start here.
//! - `timestamp.rs` — text to milliseconds. `normalise.rs` — a source's columns to pipeline types.
//! - `parse.rs` — text to a syntax tree. `functions.rs` — which functions exist, which are refused.
//! - `lower.rs` — a syntax tree to something that runs: names, types, coercion, checked arithmetic.
//! - `scalar.rs` — predicates and projections. `aggregate.rs` — aggregates.
//!
//! # What must stay true
//!
//! 1. An expression's value for a row depends on that row alone: not on its batch, not on a clock.
//! 2. Nothing wraps around: an overflow, a division by zero, a cast that fails is an error that
//!    names its row, and only where the row's own evaluation reaches it.
//! 3. An aggregate's value depends on the set of rows alone: not on their order, nor on how they
//!    were split over states that were merged. docs/design/0006 fixes the states' bytes.

mod aggregate;
mod convert;
mod error;
mod functions;
mod kernel;
mod lower;
mod near;
mod normalise;
mod parse;
mod plan;
mod scalar;
pub mod timestamp;
pub mod types;

pub use aggregate::{Aggregates, InputMode, Inputs, State, compile_aggregates};
pub use error::{ExprError, GroupError, ItemError, NormaliseError, RowError, StateError};
pub use normalise::normalise;
pub use parse::unknown_column;
pub use scalar::{Predicate, Projection, compile_predicate, compile_select};
