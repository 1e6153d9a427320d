//! From due timers to the rows of closed windows, and to groups whose time is over.

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_runtime::sim::planted::{Planted, planted};
use weir_state::key::{StateKey, Timer};
use weir_state::shard::DueTimers;

use super::Keyed;
use super::applying::put_sessions;
use super::definition::{Definition, GroupRules, Shape, VALUES};
use super::group::Group;
use super::results::{Outcome, Results};
use super::sessions;
use super::unit::Unit;
use crate::execution::error::StageError;
use crate::execution::names::RowNames;
use crate::execution::window::{Aligned, SessionRules};
use crate::pipeline::spec::Emit;
use crate::rows::Rows;

impl Keyed {
    /// Holds the keys of timers whose value may have rows in flight, and leaves out those that are
    /// held: their timers run when the rows are done. Their own rows wait until [`Keyed::fired`].
    pub(super) fn claimed(&mut self, mut due: DueTimers) -> DueTimers {
        if !self.definition.fires_by_key() || planted(Planted::TimerUnclaimed) {
            return due;
        }
        due.timers.retain(|timer| !self.admission.is_busy(&timer.key));
        let mut keys: Vec<&Bytes> = due.timers.iter().map(|timer| &timer.key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().for_each(|key| self.admission.start(key.clone()));
        due
    }

    pub(super) fn state_key(&self, timer: &Timer) -> StateKey {
        StateKey::new(timer.group, VALUES, &timer.key, &timer.namespace)
    }

    /// The rows of windows that closed by `time_ms`. What is over leaves the state with its timers;
    /// rows that waited for claimed keys start.
    ///
    /// Errors: a result that has no value of its type, damaged state.
    pub(super) fn fired(
        &mut self,
        timers: &[Timer],
        values: &[Option<Bytes>],
        time_ms: i64,
        names: &RowNames,
    ) -> Result<Rows, StageError> {
        let mut results = Results::default();
        match self.definition.shape {
            Shape::Aligned(rules) => self.close_windows(timers, values, rules, &mut results)?,
            Shape::Session(rules) => {
                self.close_sessions(timers, values, &rules, time_ms, &mut results)?;
            }
            Shape::Group(rules) => self.expire(timers, values, rules, time_ms)?,
        }
        let rows = results.rows(&self.definition, names)?;
        if self.definition.fires_by_key() && !planted(Planted::TimerUnclaimed) {
            self.release(timers)?;
        }
        Ok(rows)
    }

    /// Lets go of claimed keys.
    fn release(&mut self, timers: &[Timer]) -> Result<(), StageError> {
        let mut keys: Vec<&Bytes> = timers.iter().map(|timer| &timer.key).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut next = Unit::default();
        for key in keys {
            let waited = self.admission.end(key);
            if !waited.is_empty() {
                next.add_key(key.clone(), waited, self.definition.joining());
            }
        }
        self.start(next)
    }

    fn close_windows(
        &mut self,
        timers: &[Timer],
        values: &[Option<Bytes>],
        rules: Aligned,
        results: &mut Results,
    ) -> Result<(), StageError> {
        for (timer, value) in timers.iter().zip(values) {
            let outcome = closed(&self.definition, rules, timer, value.as_ref())?;
            if self.definition.emit == Emit::OnClose {
                let time = outcome.window.result_time_ms();
                results.add(&timer.key, outcome, time);
            }
            self.shard.delete(&self.state_key(timer));
            self.shard.clear_timer(timer.group, timer.time_ms, &timer.key, &timer.namespace);
        }
        Ok(())
    }

    fn close_sessions(
        &mut self,
        timers: &[Timer],
        values: &[Option<Bytes>],
        rules: &SessionRules,
        time_ms: i64,
        results: &mut Results,
    ) -> Result<(), StageError> {
        let mut by_key: BTreeMap<&Bytes, (&Timer, Option<&Bytes>)> = BTreeMap::new();
        for (timer, value) in timers.iter().zip(values) {
            self.shard.clear_timer(timer.group, timer.time_ms, &timer.key, &timer.namespace);
            by_key.entry(&timer.key).or_insert((timer, value.as_ref()));
        }
        for (key, (timer, value)) in by_key {
            let definition = &self.definition;
            let Some(value) = value else { continue };
            let stored = sessions::decode(&definition.aggregates, value);
            let stored = stored.map_err(|error| definition.value_error(key, &error))?;
            let (over, open): (Vec<_>, Vec<_>) =
                stored.into_iter().partition(|session| rules.is_closed(session.last_ms, time_ms));
            for session in over {
                self.shard.clear_timer(timer.group, rules.closes_at(session.last_ms), key, &[]);
                if definition.emit == Emit::OnClose {
                    let window = session.window(rules);
                    let outcome = Outcome { window, state: session.state };
                    results.add(key, outcome, window.result_time_ms());
                }
            }
            for session in &open {
                self.shard.set_timer(timer.group, rules.closes_at(session.last_ms), key, &[]);
            }
            let state_key = self.state_key(timer);
            let (shard, scratch) = (&mut self.shard, &mut self.scratch);
            put_sessions(shard, &self.definition, &state_key, &open, scratch);
        }
        Ok(())
    }

    /// Takes away groups that were not written for their ttl. The others' timers are set anew.
    fn expire(
        &mut self,
        timers: &[Timer],
        values: &[Option<Bytes>],
        rules: GroupRules,
        time_ms: i64,
    ) -> Result<(), StageError> {
        for (timer, value) in timers.iter().zip(values) {
            self.shard.clear_timer(timer.group, timer.time_ms, &timer.key, &timer.namespace);
            let Some(value) = value else { continue };
            let group = Group::decode(&self.definition.aggregates, value);
            let group = group.map_err(|error| self.definition.value_error(&timer.key, &error))?;
            if group.is_over(rules.ttl_ms, time_ms) {
                self.shard.delete(&self.state_key(timer));
            } else if let (Some(written), Some(ttl)) = (group.written_ms, rules.ttl_ms) {
                self.shard.set_timer(timer.group, written.saturating_add(ttl), &timer.key, &[]);
            }
        }
        Ok(())
    }
}

const NO_VALUE: &str = "a timer has no value";

fn closed(
    definition: &Definition,
    rules: Aligned,
    timer: &Timer,
    value: Option<&Bytes>,
) -> Result<Outcome, StageError> {
    let damaged = |error: &dyn std::fmt::Display| definition.value_error(&timer.key, error);
    let window = rules.named(&timer.namespace);
    let window = window.ok_or_else(|| damaged(&"a timer names no window of this step"))?;
    let value = value.ok_or_else(|| damaged(&NO_VALUE))?;
    let state = definition.aggregates.decode_shared(value).map_err(|error| damaged(&error))?;
    Ok(Outcome { window, state })
}
