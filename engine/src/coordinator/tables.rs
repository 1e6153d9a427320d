//! When tables write their snapshots, and which snapshots go. Deciding is pure.
//!
//! A snapshot's parts are all of one checkpoint, so the coordinator says with the trigger which
//! tables write. It is visible when every part is confirmed; only then the older ones go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_runtime::clock::Instant;
use weir_state::gc::{self, GcError, SinkFolders};
use weir_state::ids::CheckpointId;
use weir_state::journal::{JobState, Journal};
use weir_state::names::TableFile;
use weir_state::objects::Place;

use crate::execution::orders::TableSet;

/// The tables of a job, in the order of their steps.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    tables: Vec<Table>,
    /// Of the checkpoint that was begun last: who writes, whether rows have come, since when.
    open: Option<(TableSet, bool, Instant)>,
}

#[derive(Clone, Debug)]
struct Table {
    every: Option<Duration>,
    written: Instant,
    /// Rows may have come that no snapshot shows.
    is_stale: bool,
}

impl Tables {
    /// With the times from snapshot to snapshot; none: at the end alone.
    pub(crate) fn new(every: Vec<Option<Duration>>, now: Instant) -> Self {
        let table = |every| Table { every, written: now, is_stale: false };
        Self { tables: every.into_iter().map(table).collect(), open: None }
    }

    /// When a table has to be written although no row comes any more.
    pub(crate) fn due(&self) -> Option<Instant> {
        let stale = self.tables.iter().filter(|table| table.is_stale);
        stale.filter_map(|table| Some(table.written + table.every?)).min()
    }

    /// A checkpoint begins; gives the tables that write. `changed`: rows may have come since the
    /// one before.
    pub(crate) fn begin(&mut self, is_last: bool, changed: bool, now: Instant) -> TableSet {
        let mut set = TableSet::default();
        for (number, table) in (0..).zip(&self.tables) {
            let is_due = table.every.is_some_and(|every| now >= table.written + every);
            if is_last || (is_due && (changed || table.is_stale)) {
                set.add(number);
            }
        }
        self.open = Some((set, changed, now));
        set
    }

    /// A checkpoint begins at which no table writes.
    pub(crate) fn skip(&mut self, changed: bool, now: Instant) -> TableSet {
        self.open = Some((TableSet::default(), changed, now));
        TableSet::default()
    }

    /// The checkpoint that was begun last is complete.
    pub(crate) fn complete(&mut self) {
        let Some((set, changed, began)) = self.open.take() else { return };
        for (number, table) in (0..).zip(&mut self.tables) {
            if set.holds(number) {
                (table.written, table.is_stale) = (began, false);
            } else {
                table.is_stale |= changed;
            }
        }
    }
}

/// The parts that go: those of this run that are older than its newest snapshot all of whose parts
/// are known to be visible. `waiting` are names that a record lists and none confirms.
fn outdated(parts: &[TableFile], run: &str, waiting: &BTreeSet<String>) -> Vec<TableFile> {
    let own = || parts.iter().filter(|part| part.run == run);
    let unsure: BTreeSet<CheckpointId> = waiting
        .iter()
        .filter_map(|name| TableFile::parse(name))
        .map(|part| part.checkpoint)
        .collect();
    let newest = own().map(|part| part.checkpoint).filter(|id| !unsure.contains(id)).max();
    own().filter(|part| newest.is_some_and(|newest| part.checkpoint < newest)).cloned().collect()
}

/// Deletes the snapshots that newer ones have replaced. `tables` are the steps of the tables, each
/// with its folder's URI.
pub(crate) async fn delete_outdated(
    journal: &Journal,
    tables: &BTreeMap<String, String>,
    sinks: &SinkFolders,
) -> Result<(), GcError> {
    for (step, uri) in tables {
        let Some(place) = sinks.get(uri) else { continue };
        let doomed = find_outdated(journal, step, place).await?;
        let paths: Vec<_> = doomed.iter().map(|name| place.path(name)).collect();
        place.delete(&paths).await?;
    }
    Ok(())
}

/// Names in the folder of the table `step` of snapshots that newer ones have replaced.
pub(crate) async fn find_outdated(
    journal: &Journal,
    step: &str,
    place: &Place,
) -> Result<Vec<String>, GcError> {
    let names = gc::sink_files(place, step).await?;
    // Of what came after the journal was read nobody here knows whether all of it is there.
    let last = journal.state().last_checkpoint().map(|last| last.id);
    let is_known = |part: &TableFile| last.is_some_and(|last| part.checkpoint <= last);
    let parts = names.iter().filter_map(|(name, _)| TableFile::parse(name));
    let parts: Vec<TableFile> = parts.filter(is_known).collect();
    let run = &journal.incarnation().id;
    let doomed = outdated(&parts, run, &waiting(journal.state(), step));
    Ok(doomed.iter().map(ToString::to_string).collect())
}

/// Final names of the step's pieces that no record confirms.
fn waiting(state: &JobState, step: &str) -> BTreeSet<String> {
    let pieces = state.unconfirmed.values().flatten().filter(|piece| piece.step == step);
    pieces.map(|piece| piece.final_name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use weir_runtime::clock;

    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_table_is_written_at_each_every_and_all_are_at_the_end() {
        let now = clock::now();
        let minute = Some(Duration::from_secs(60));
        let mut tables = Tables::new(vec![minute, None], now);
        assert_eq!(tables.begin(false, true, at(now, 59)), TableSet(0));
        tables.complete();
        assert_eq!(tables.due(), Some(at(now, 60)), "rows have come since");
        assert_eq!(tables.begin(false, false, at(now, 61)), TableSet(1));
        // It was aborted: the next one takes it up.
        assert_eq!(tables.begin(false, false, at(now, 62)), TableSet(1));
        tables.complete();
        assert_eq!(tables.due(), None, "an idle table is not written again");
        assert_eq!(tables.begin(false, false, at(now, 200)), TableSet(0));
        tables.complete();
        assert_eq!(tables.begin(true, false, at(now, 201)), TableSet(3));
    }

    #[test]
    fn a_snapshot_goes_when_a_newer_one_is_confirmed() {
        let part = |run: &str, checkpoint, part| TableFile {
            step: "t".to_owned(),
            run: run.to_owned(),
            checkpoint: CheckpointId(checkpoint),
            part,
            suffix: "ndjson".to_owned(),
        };
        let parts = [part("a", 1, 0), part("a", 1, 1), part("a", 2, 0), part("b", 9, 0)];
        let waiting = BTreeSet::from([part("a", 2, 1).to_string()]);
        assert_eq!(outdated(&parts, "a", &waiting), []);
        assert_eq!(outdated(&parts, "a", &BTreeSet::new()), parts[..2]);
        assert_eq!(outdated(&parts, "b", &BTreeSet::new()), []);
        assert_eq!(outdated(&parts, "c", &BTreeSet::new()), []);
    }
}
