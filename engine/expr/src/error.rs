//! What can go wrong: while compiling, in a row, in a group, in stored bytes.
//!
//! Messages are whole sentences for the user; a caller adds the place in front.

/// Why an expression is refused when the job is checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExprError(pub(crate) String);

/// Why one item of a list (select items, values) is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct ItemError {
    /// Index of the item in the list.
    pub item: usize,
    /// Why.
    pub error: ExprError,
}

/// An overflow, a division by zero, a failing cast: the row would fail again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RowError {
    /// Index of the first such row in the batch.
    pub row: usize,
    /// What happened, with the expression.
    pub message: String,
}

/// Why a source's batch does not have the columns that it was planned with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NormaliseError {
    /// The object's schema is another than the planned one.
    #[error("column `{column}` {message}")]
    Column {
        /// Name of the column.
        column: String,
        /// What is wrong with it.
        message: String,
    },
    /// A value that has none in its column's pipeline type.
    #[error(transparent)]
    Row(RowError),
}

/// A group whose result has no value of its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct GroupError {
    /// Index of the first such group.
    pub group: usize,
    /// What happened, with the expression.
    pub message: String,
}

/// Stored bytes that are not a state of these aggregates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Written by a newer version of Weir.
    #[error("aggregate state has version {found}; this build reads up to {known}")]
    Newer {
        /// Version of the bytes.
        found: u8,
        /// Newest version that is understood.
        known: u8,
    },
    /// The bytes are damaged or belong to other aggregates.
    #[error("aggregate state is damaged at byte {offset}: {what}")]
    Damaged {
        /// Where.
        offset: usize,
        /// What was expected.
        what: &'static str,
    },
}
