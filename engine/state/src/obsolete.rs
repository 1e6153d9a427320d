//! Obsolete objects: a shard's own outputs that no record ever named and nothing needs any more.
//!
//! A name comes here when the last handle of its file goes (`version::TableHandle`): then it is in
//! no live version, in none that an open checkpoint captured, and under no open read. A file whose
//! name was given away in a checkpoint never comes here, even if no notification followed: that
//! acknowledgement may have become a record all the same. Such files are the coordinator's to
//! retire.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::ids::CheckpointId;

/// The obsolete objects of one shard, and in which checkpoint each was first reported.
#[derive(Debug, Default)]
pub(crate) struct Obsolete {
    names: Mutex<BTreeMap<String, Option<CheckpointId>>>,
}

impl Obsolete {
    /// Takes the name of an object that nothing needs.
    pub(crate) fn add(&self, name: String) {
        self.lock().insert(name, None);
    }

    /// The names to report with `checkpoint`: all that no completed checkpoint carried yet, so
    /// that a lost acknowledgement loses no name. Reporting one twice is harmless.
    pub(crate) fn report(&self, checkpoint: CheckpointId) -> Vec<String> {
        let mut names = self.lock();
        for reported in names.values_mut() {
            reported.get_or_insert(checkpoint);
        }
        names.keys().cloned().collect()
    }

    /// Forgets what was reported up to `checkpoint`, which is complete.
    pub(crate) fn completed(&self, checkpoint: CheckpointId) {
        self.lock().retain(|_, reported| reported.is_none_or(|first| first > checkpoint));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Option<CheckpointId>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_reported_until_a_checkpoint_that_carried_them_completes() {
        let obsolete = Obsolete::default();
        obsolete.add("a".to_owned());
        assert_eq!(obsolete.report(CheckpointId(1)), ["a"]);
        obsolete.add("b".to_owned());
        assert_eq!(obsolete.report(CheckpointId(2)), ["a", "b"]);
        obsolete.completed(CheckpointId(1));
        assert_eq!(obsolete.report(CheckpointId(3)), ["b"]);
        obsolete.completed(CheckpointId(3));
        assert!(obsolete.report(CheckpointId(4)).is_empty());
    }
}
