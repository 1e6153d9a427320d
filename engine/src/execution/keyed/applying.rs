//! From entries and their stored values to new values, timers and changes.

use bytes::Bytes;
use weir_runtime::sim::planted::{Planted, planted};
use weir_state::shard::Shard;

use super::Keyed;
use super::definition::{Definition, GroupRules, Shape};
use super::group::Group;
use super::results::{Change, Outcome};
use super::sessions::{self, Placed, Session};
use super::unit::{Entry, Piece};
use crate::execution::error::StageError;
use crate::execution::window::{Aligned, SessionRules, Window};
use crate::pipeline::spec::Emit;

impl Keyed {
    /// Writes the new value of an entry.
    pub(super) fn apply_entry(
        &mut self,
        entry: Entry,
        value: Option<&Bytes>,
    ) -> Result<(), StageError> {
        match self.definition.shape {
            Shape::Aligned(rules) => self.apply_window(entry, value, rules),
            Shape::Session(rules) => self.apply_sessions(entry, value, &rules),
            Shape::Group(rules) => self.apply_group(entry, value, rules),
        }
    }

    fn apply_window(
        &mut self,
        entry: Entry,
        value: Option<&Bytes>,
        rules: Aligned,
    ) -> Result<(), StageError> {
        let Entry { key, state_key, window, piece, .. } = entry;
        let Definition { aggregates, emit, .. } = &self.definition;
        let mut before = None;
        let state = match value {
            None => {
                let time = rules.closes_at(window);
                self.shard.set_timer(state_key.group(), time, &key, &window.namespace());
                piece.partial
            }
            Some(bytes) => {
                let stored = aggregates
                    .decode_shared(bytes)
                    .map_err(|error| self.definition.value_error(&key, &error))?;
                let state = aggregates.merged(&stored, piece.partial);
                if *emit == Emit::OnUpdate {
                    before = Some(Outcome { window, state: stored });
                }
                state
            }
        };
        self.scratch.clear();
        aggregates.encode(&state, &mut self.scratch);
        self.shard.put(&state_key, &self.scratch);
        if *emit == Emit::OnUpdate {
            let after = Some(Outcome { window, state });
            self.changes.push(Change { key, before, after, time_ms: piece.last_ms });
        }
        Ok(())
    }

    fn apply_group(
        &mut self,
        entry: Entry,
        value: Option<&Bytes>,
        rules: GroupRules,
    ) -> Result<(), StageError> {
        let definition = &self.definition;
        let aggregates = &definition.aggregates;
        let (key, state_key) = (entry.key.clone(), entry.state_key.clone());
        let stored = value.map(|bytes| Group::decode(aggregates, bytes)).transpose();
        let mut group = stored.map_err(|error| definition.value_error(&key, &error))?;
        // Each stored group has a timer, at the end of its ttl or earlier.
        let timed = group.as_ref().is_some_and(|group| group.written_ms.is_some());
        // The last change, which may yet be followed by another: what was before it, and its time.
        let mut last: Option<(Option<Outcome>, i64)> = None;
        let window = Window::default();
        for piece in entry.pieces() {
            if let Some((before, time_ms)) = last.take() {
                let after = group.as_ref().map(|new| Outcome { window, state: new.state.clone() });
                self.changes.push(Change { key: key.clone(), before, after, time_ms });
            }
            let Piece { partial, first_ms, last_ms, now_ms, .. } = piece;
            let (first_ms, last_ms, now_ms) =
                if rules.has_time { (first_ms, last_ms, now_ms) } else { (now_ms, now_ms, now_ms) };
            let by_row = if planted(Planted::TtlByWatermarkAlone) { i64::MIN } else { first_ms };
            let old = group.take().filter(|old| !old.is_over(rules.ttl_ms, now_ms.max(by_row)));
            let written = old.as_ref().and_then(|old| old.written_ms).unwrap_or(last_ms);
            let mut state = match &old {
                None => partial,
                Some(old) => aggregates.merged(&old.state, partial),
            };
            if let Err(error) = aggregates.settle(&mut state) {
                if rules.ttl_ms.is_some() {
                    // The row that is taken back was of a life that is over.
                    group = old;
                    continue;
                }
                return Err(StageError::Key {
                    step: definition.id.clone(),
                    key: definition.key_text(&key),
                    message: error.message,
                });
            }
            let before = old.map(|old| Outcome { window, state: old.state });
            if !aggregates.is_empty(&state) {
                let written_ms = rules.ttl_ms.map(|_| written.max(last_ms));
                group = Some(Group { written_ms, state });
            }
            if before.is_some() || group.is_some() {
                last = Some((before, last_ms));
            }
        }
        match &group {
            None => self.shard.delete(&state_key),
            Some(group) => {
                if let (Some(written), Some(ttl), false) = (group.written_ms, rules.ttl_ms, timed) {
                    self.shard.set_timer(state_key.group(), written.saturating_add(ttl), &key, &[]);
                }
                self.scratch.clear();
                group.encode(aggregates, &mut self.scratch);
                self.shard.put(&state_key, &self.scratch);
            }
        }
        if let Some((before, time_ms)) = last {
            let after = group.map(|new| Outcome { window, state: new.state });
            self.changes.push(Change { key, before, after, time_ms });
        }
        Ok(())
    }

    fn apply_sessions(
        &mut self,
        entry: Entry,
        value: Option<&Bytes>,
        rules: &SessionRules,
    ) -> Result<(), StageError> {
        let definition = &self.definition;
        let aggregates = &definition.aggregates;
        let (key, state_key) = (entry.key.clone(), entry.state_key.clone());
        let stored = value.map(|bytes| sessions::decode(aggregates, bytes)).transpose();
        let stored = stored.map_err(|error| definition.value_error(&key, &error))?;
        let mut sessions = stored.unwrap_or_default();
        let before = closings(&sessions, rules);
        for piece in entry.pieces() {
            let (rows, time_ms) = (piece.rows, piece.last_ms);
            match sessions::place(&mut sessions, piece, rules, aggregates) {
                Placed::Late => self.late += rows,
                Placed::Into(at, replaced) if definition.emit == Emit::OnUpdate => {
                    let outcome = |session: Session| Outcome {
                        window: session.window(rules),
                        state: session.state,
                    };
                    let mut replaced = replaced.into_iter().map(outcome);
                    let (before, after) = (replaced.next(), Some(outcome(sessions[at].clone())));
                    self.changes.push(Change { key: key.clone(), before, after, time_ms });
                    let gone = replaced.map(|before| Change {
                        key: key.clone(),
                        before: Some(before),
                        after: None,
                        time_ms,
                    });
                    self.changes.extend(gone);
                }
                Placed::Into(..) => {}
            }
        }
        let after = closings(&sessions, rules);
        let group = state_key.group();
        for time in before.iter().filter(|time| !after.contains(time)) {
            self.shard.clear_timer(group, *time, &key, &[]);
        }
        for time in after.iter().filter(|time| !before.contains(time)) {
            self.shard.set_timer(group, *time, &key, &[]);
        }
        self.scratch.clear();
        put_sessions(&mut self.shard, definition, &state_key, &sessions, &mut self.scratch);
        Ok(())
    }
}

/// When the sessions close.
pub(super) fn closings(sessions: &[Session], rules: &SessionRules) -> Vec<i64> {
    sessions.iter().map(|session| rules.closes_at(session.last_ms)).collect()
}

/// Stores the sessions of a key; without any there is no value.
pub(super) fn put_sessions(
    shard: &mut Shard,
    definition: &Definition,
    key: &weir_state::key::StateKey,
    sessions: &[Session],
    scratch: &mut Vec<u8>,
) {
    if sessions.is_empty() {
        return shard.delete(key);
    }
    scratch.clear();
    sessions::encode(&definition.aggregates, sessions, scratch);
    shard.put(key, scratch);
}
