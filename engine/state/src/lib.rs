//! Weir's state store and journal: keyed state on an object store, and the log that decides.
//!
//! Usable on their own: nothing here knows of dataflow, Arrow or Kubernetes.

pub mod ids;
pub mod names;
pub mod version;
