//! From a batch of rows to entries: late rows out, windows, keys, partial values.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use weir_expr::{RowError, State};
use weir_runtime::clock;
use weir_runtime::sim::planted::{Planted, planted};
use weir_state::ids::KeyGroup;
use weir_state::key::StateKey;

use super::Keyed;
use super::definition::{GroupRules, Shape, VALUES};
use super::unit::{Entry, Piece, Unit};
use crate::execution::epochs::Epoch;
use crate::execution::error::StageError;
use crate::execution::grouping::{GroupedEntry, Grouping, group, lives, stretches};
use crate::execution::names::{RowNames, key_text};
use crate::execution::window::{Aligned, Window};
use crate::rows::Rows;
use crate::rows::key::Keys;

impl Keyed {
    /// Takes a batch.
    ///
    /// Errors: a row on which the values' arguments fail, damaged state.
    pub(super) fn take(&mut self, rows: &Rows, names: &RowNames) -> Result<(), StageError> {
        let rows = match self.definition.shape {
            Shape::Aligned(rules) => self.in_time(rows, rules, names)?,
            Shape::Session(_) | Shape::Group(_) => rows.clone(),
        };
        if rows.is_empty() {
            return Ok(());
        }
        let key_columns: Vec<ArrayRef> = self.key_columns(&rows);
        let retracts = if self.definition.retracts { retracted(&rows) } else { None };
        let aggregates = &self.definition.aggregates;
        let inputs = aggregates.inputs(&rows.batch, rows.times.as_ref(), retracts.as_ref());
        let inputs = inputs.map_err(|error| self.row_error(&rows, &error, &key_columns, names))?;
        let keys = Keys::encode(&key_columns, rows.len());
        let keys = keys.map_err(|error| names.bug(&self.definition.id, &error))?;
        let grouping = self.group(&keys, &rows, names)?;
        let aggregates = &self.definition.aggregates;
        let mut partials = vec![aggregates.new_state(); grouping.entries.len()];
        aggregates.update_many(&mut partials, &inputs, &grouping.entry_of_row);
        let pieces = self.pieces(&grouping, partials, &rows);
        let batch = Batch { keys: &keys, grouping: &grouping };
        let entries = self.entries(&batch, pieces);
        let unit = self.admit(&batch, entries);
        self.start(unit)
    }

    /// The rows of which a window is open. The others are late.
    fn in_time(
        &mut self,
        rows: &Rows,
        rules: Aligned,
        names: &RowNames,
    ) -> Result<Rows, StageError> {
        let times = times_of(rows).ok_or_else(|| names.bug(&self.definition.id, &NoTimes))?;
        let watermark = self.epochs.arrived();
        let is_open = |pane: &Window| !rules.is_late(*pane, watermark);
        let panes = panes(rules, times);
        let late = panes.iter().filter(|pane| !is_open(pane)).count();
        if late == 0 {
            return Ok(rows.clone());
        }
        self.late += late;
        let mask: BooleanArray = panes.iter().map(|pane| Some(is_open(pane))).collect();
        rows.filter(&mask).map_err(|error| names.bug(&self.definition.id, &error))
    }

    fn group(&self, keys: &Keys, rows: &Rows, names: &RowNames) -> Result<Grouping, StageError> {
        let times = times_of(rows);
        let needed = || times.ok_or_else(|| names.bug(&self.definition.id, &NoTimes));
        Ok(match self.definition.shape {
            Shape::Aligned(rules) => group(keys, &panes(rules, needed()?)),
            Shape::Session(rules) => {
                // Whether a late row finds an open session depends on the rows right before it.
                let (times, watermark) = (needed()?, self.epochs.arrived());
                let each = times.iter().any(|time| rules.is_closed(*time, watermark));
                stretches(keys, times, rules.gap_ms(), each)
            }
            Shape::Group(GroupRules { ttl_ms: Some(_), .. }) if self.definition.retracts => {
                // What is taken back may be of an earlier life, and what is added with it not.
                let none = vec![0; keys.len()];
                stretches(keys, times.unwrap_or(&none), 0, true)
            }
            Shape::Group(GroupRules { ttl_ms, has_time: true }) => {
                lives(keys, times, self.epochs.arrived(), ttl_ms)
            }
            Shape::Group(GroupRules { has_time: false, .. }) => lives(keys, None, 0, None),
        })
    }

    fn key_columns(&self, rows: &Rows) -> Vec<ArrayRef> {
        let columns = self.definition.key.iter();
        columns.map(|column| Arc::clone(rows.batch.column(*column))).collect()
    }

    /// Behind the first aggregate rows have no origin: the key names them.
    fn row_error(
        &self,
        rows: &Rows,
        error: &RowError,
        key: &[ArrayRef],
        names: &RowNames,
    ) -> StageError {
        if rows.origins.is_some() {
            return names.row_error(&self.definition.id, rows, error);
        }
        StageError::Key {
            step: self.definition.id.clone(),
            key: key_text(key, error.row),
            message: error.message.clone(),
        }
    }

    /// What each grouped entry's rows do.
    fn pieces(&self, grouping: &Grouping, partials: Vec<State>, rows: &Rows) -> Vec<Piece> {
        let now_ms =
            if self.definition.goes_by_clock() { clock::wall_ms() } else { self.epochs.arrived() };
        let mut last = vec![i64::MIN; grouping.entries.len()];
        if let Some(times) = times_of(rows) {
            for (entry, time) in grouping.entry_of_row.iter().zip(times) {
                let last = &mut last[*entry as usize];
                *last = (*last).max(*time);
            }
        }
        let all = grouping.entries.iter().zip(partials).zip(last);
        all.map(|((entry, partial), last_ms)| Piece {
            partial,
            first_ms: entry.window.start_ms,
            last_ms,
            now_ms,
            rows: entry.rows as usize,
        })
        .collect()
    }

    /// One entry for each place in the state, with the number of its key.
    fn entries(&mut self, batch: &Batch<'_>, pieces: Vec<Piece>) -> Vec<(u32, Entry)> {
        let epoch = self.epochs.arrive(0);
        let definition = &self.definition;
        let mut entries: Vec<(u32, Entry)> = Vec::with_capacity(pieces.len());
        let unique = match definition.shape {
            Shape::Aligned(rules) => rules.is_tumbling(),
            Shape::Group(rules) => rules.ttl_ms.is_none(),
            Shape::Session(_) => false,
        };
        let mut places: BTreeMap<(u32, i64), usize> = BTreeMap::new();
        let mut add =
            |grouped: &GroupedEntry, window: Option<Window>, piece: &mut Option<Piece>| {
                let name = window.map_or(0, |window| window.start_ms);
                let place = match unique {
                    true => entries.len(),
                    false => *places.entry((grouped.key, name)).or_insert(entries.len()),
                };
                let Some(piece) = piece.take() else { return };
                match (entries.get_mut(place), definition.joining()) {
                    (Some((_, entry)), how) => entry.join(piece, how),
                    (None, _) => {
                        let entry = batch.entry(definition.groups, grouped, window, piece, epoch);
                        entries.push((grouped.key, entry));
                    }
                }
            };
        for (grouped, piece) in batch.grouping.entries.iter().zip(pieces) {
            match definition.shape {
                Shape::Aligned(rules) => {
                    let watermark = self.epochs.arrived();
                    let windows = rules.windows_of(grouped.window);
                    for window in windows.filter(|window| !rules.is_closed(*window, watermark)) {
                        add(grouped, Some(window), &mut Some(piece.clone()));
                    }
                }
                Shape::Session(_) | Shape::Group(_) => add(grouped, None, &mut Some(piece)),
            }
        }
        entries
    }

    /// Counts the entries of a batch in; those of busy keys wait, the others are given as a unit.
    fn admit(&mut self, batch: &Batch<'_>, entries: Vec<(u32, Entry)>) -> Unit {
        let mut unit = Unit::default();
        let idle = self.admission.is_idle();
        let mut busy = Vec::with_capacity(batch.grouping.row_of_key.len());
        for row in &batch.grouping.row_of_key {
            let key = batch.keys.key_bytes(*row as usize);
            let is_busy = !idle && self.admission.is_busy(&key);
            busy.push(is_busy);
            if !is_busy {
                unit.keys.push(key);
            }
        }
        for (number, mut entry) in entries {
            let rows = entry.rows();
            entry.arrived = (self.epochs.arrive(rows), rows);
            self.rows_in_flight += rows;
            self.bytes_in_flight += entry.bytes();
            if busy[number as usize] {
                let key = entry.key.clone();
                if let Some(free) = self.admission.wait(&key, entry) {
                    unit.add(free);
                }
            } else {
                unit.add(entry);
            }
        }
        unit
    }
}

/// The keys of a batch, and its rows by them.
struct Batch<'a> {
    keys: &'a Keys,
    grouping: &'a Grouping,
}

impl Batch<'_> {
    fn entry(
        &self,
        groups: u16,
        grouped: &GroupedEntry,
        window: Option<Window>,
        piece: Piece,
        epoch: Epoch,
    ) -> Entry {
        let row = self.grouping.row_of_key[grouped.key as usize] as usize;
        let key = self.keys.key_bytes(row);
        let astray = u64::from(planted(Planted::KeyGroupAstray));
        let group = KeyGroup::of_hash(self.keys.hashes()[row] >> astray, groups);
        let state_key = match window {
            Some(window) => StateKey::new(group, VALUES, &key, &window.namespace()),
            None => StateKey::new(group, VALUES, &key, &[]),
        };
        let window = window.unwrap_or_default();
        Entry { key, state_key, window, piece, later: Vec::new(), arrived: (epoch, 0) }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("rows without event time reached a window")]
struct NoTimes;

/// Which rows are taken back; none: all are added.
fn retracted(rows: &Rows) -> Option<BooleanArray> {
    let kinds = rows.kinds.as_ref().filter(|_| !planted(Planted::RetractionAdded))?;
    Some((0..kinds.len()).map(|row| Some(rows.kind(row).retracts())).collect())
}

fn times_of(rows: &Rows) -> Option<&[i64]> {
    rows.times.as_ref().map(|times| &times.values()[..])
}

/// The panes of all rows. Neighbours mostly fall into one, which saves the division.
fn panes(rules: Aligned, times: &[i64]) -> Vec<Window> {
    let mut panes = Vec::with_capacity(times.len());
    let mut last: Option<Window> = None;
    for time in times {
        let pane = match last {
            Some(pane) if pane.start_ms <= *time && *time < pane.end_ms => pane,
            _ => rules.pane(*time),
        };
        last = Some(pane);
        panes.push(pane);
    }
    panes
}
