//! Weir's state store and journal: keyed state on an object store, and the log that decides.
//!
//! Usable on their own: nothing here knows of dataflow, Arrow or Kubernetes.

mod access;
mod cache;
pub mod compaction;
mod entry;
mod error;
pub mod gc;
pub mod ids;
pub mod journal;
pub mod key;
pub mod list;
mod lookup;
mod memtable;
pub mod names;
pub mod objects;
mod obsolete;
mod output;
mod scan;
pub mod shard;
mod steps;
pub mod store;
mod table;
mod varint;
pub mod version;

pub use access::{Access, Get, Pending};
pub use error::{Remedy, StateError, StoreOp};
