//! Table files: immutable sorted objects. docs/design/0002-state-keys-and-table-files.md fixes the
//! format.
//!
//! `data block… · filter · index · key groups · footer`; all behind the data blocks is the tail,
//! which one range request reads.
//!
//! - `block.rs` — data blocks: building, checking, searching, walking.
//! - `filter.rs` — which keys are surely absent.
//! - `tail.rs` — index, key groups and footer: writing, checking, finding a block.
//! - `writer.rs` — a whole file from sorted entries.
//!
//! # What must stay true
//!
//! 1. No byte is used before its checksum was checked; checksums know their offset, so a block read
//!    from the wrong place is damage too.
//! 2. Damage is an error with object and offset, a newer format one with its number; never a panic
//!    and never data.

mod block;
mod filter;
mod tail;
mod writer;

use crate::error::StateError;

pub(crate) use self::block::{Block, BlockCursor};
pub(crate) use self::filter::hash_of;
pub(crate) use self::tail::{BlockHandle, Tail};
pub(crate) use self::writer::{FinishedTable, TableWriter};

/// The version of the format that is written, and the newest that is read.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// The last bytes of every table file.
const MAGIC: [u8; 8] = *b"weirtabl";

/// What is wrong with the bytes of an object, before the object's name is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// The bytes are not what was written.
    Damaged { offset: u64, expected: String, found: String },
    /// The format is newer than [`FORMAT_VERSION`].
    Newer { found: u32 },
}

impl Damage {
    fn at(offset: u64, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Damaged { offset, expected: expected.into(), found: found.into() }
    }

    fn checksum(offset: u64, expected: u64, found: u64) -> Self {
        let text = |checksum| format!("checksum {checksum:016x}");
        Self::at(offset, text(expected), text(found))
    }

    /// The error that names the object.
    pub(crate) fn of(self, object: &str) -> StateError {
        let object = object.to_owned();
        match self {
            Self::Damaged { offset, expected, found } => {
                StateError::Damaged { object, offset, expected, found }
            }
            Self::Newer { found } => {
                StateError::NewerFormat { object, found, known: FORMAT_VERSION }
            }
        }
    }
}

#[cfg(test)]
mod tests;
