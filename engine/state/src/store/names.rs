//! Names of state objects: nobody can ever have used one before, and none is used twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64;

use crate::ids::Generation;

/// Deals names for the objects that one worker process writes in one generation.
///
/// `objects/<hh>-g<generation>-<worker incarnation>-<attempt>.table` below the incarnation's
/// folder; `hh` are two digits of a hash of the rest, because stores limit requests per prefix.
/// All shards of the worker share one (it is cheap to clone): the attempt numbers come from it.
#[derive(Clone, Debug)]
pub struct ObjectNamer {
    generation: Generation,
    worker: Arc<str>,
    attempts: Arc<AtomicU64>,
}

impl ObjectNamer {
    /// The namer of a worker (by its process's incarnation id) in a generation. One per pair: a
    /// second one would deal the same names again.
    pub fn new(generation: Generation, worker: &str) -> Self {
        Self { generation, worker: worker.into(), attempts: Arc::default() }
    }

    /// A name that was never dealt before.
    pub fn next(&self) -> String {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let rest = format!("g{}-{}-{attempt}.table", self.generation, self.worker);
        format!("objects/{:02x}-{rest}", xxh3_64(rest.as_bytes()) >> 56)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_carry_generation_and_worker() {
        let namer = ObjectNamer::new(Generation(3), "w1");
        let (one, two) = (namer.next(), namer.clone().next());
        assert_ne!(one, two);
        assert!(one.starts_with("objects/") && one.ends_with("-g3-w1-0.table"), "{one}");
        assert!(two.ends_with("-g3-w1-1.table"), "{two}");
    }
}
