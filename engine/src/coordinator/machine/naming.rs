//! Snapshots: which checkpoints get a name, and which names are given up. Pure.
//!
//! A wish for a name is a wish for a checkpoint that begins after it. The name is recorded once all
//! that the checkpoint commits is visible: whoever goes on from the snapshot finds the output of
//! everything before it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_runtime::clock::Instant;
use weir_state::ids::CheckpointId;

use super::{Effect, Machine, State};
use crate::coordinator::commits::Commits;
use crate::coordinator::snapshots::{Kept, Wish, Wishes};

/// A snapshot that is pinned, or whose deletion the store did not take, is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Wishes, and how far each is.
#[derive(Clone, Debug, Default)]
pub(super) struct Naming {
    wishes: Wishes,
    kept: BTreeMap<String, Kept>,
    /// Names that the open checkpoint gets.
    open: BTreeSet<String>,
    waiting: Vec<Waiting>,
    /// Names whose record is being written.
    recording: BTreeSet<String>,
    /// Why a snapshot that is to go is still there.
    held: BTreeMap<String, String>,
    retry_at: Option<Instant>,
}

/// A complete checkpoint whose output is not visible yet.
#[derive(Clone, Debug)]
struct Waiting {
    checkpoint: CheckpointId,
    names: BTreeSet<String>,
    /// Completed checkpoints since.
    newer: u32,
}

impl Naming {
    /// Whoever takes over knows what the journal keeps.
    pub(super) fn after(kept: BTreeMap<String, Kept>) -> Self {
        Self { kept, ..Self::default() }
    }

    pub(super) fn wish(&mut self, wishes: Wishes) {
        self.wishes = wishes;
        self.retry_at = None;
    }

    /// Names that no checkpoint has, or is about to get.
    fn missing(&self) -> BTreeSet<String> {
        let keep = self.wishes.iter().filter(|(_, wish)| **wish == Wish::Keep).map(|its| its.0);
        let is_on_its_way = |name: &str| {
            self.recording.contains(name)
                || self.waiting.iter().any(|waiting| waiting.names.contains(name))
        };
        keep.filter(|name| !self.kept.contains_key(*name) && !is_on_its_way(name))
            .cloned()
            .collect()
    }

    pub(super) fn is_due(&self) -> bool {
        !self.missing().is_empty()
    }

    /// A checkpoint begins.
    pub(super) fn begin(&mut self) {
        self.open = self.missing();
    }

    /// It is complete, and so many are kept.
    pub(super) fn complete(&mut self, checkpoint: CheckpointId, retained: u32) {
        for waiting in &mut self.waiting {
            waiting.newer += 1;
            if waiting.newer >= retained {
                // It is no longer kept; the newer one holds all that it held.
                (waiting.checkpoint, waiting.newer) = (checkpoint, 0);
            }
        }
        self.wait(checkpoint);
    }

    fn wait(&mut self, checkpoint: CheckpointId) {
        let names = std::mem::take(&mut self.open);
        if !names.is_empty() {
            self.waiting.push(Waiting { checkpoint, names, newer: 0 });
        }
    }

    /// Names whose checkpoint's output is visible.
    fn take_visible(&mut self, commits: &Commits) -> Vec<(String, CheckpointId)> {
        let all = std::mem::take(&mut self.waiting);
        let (visible, waiting): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|its| commits.is_visible(its.checkpoint));
        self.waiting = waiting;
        let named = |Waiting { checkpoint, names, .. }| {
            names.into_iter().map(move |name| (name, checkpoint))
        };
        let visible: Vec<_> = visible.into_iter().flat_map(named).collect();
        self.recording.extend(visible.iter().map(|(name, _)| name.clone()));
        visible
    }

    /// None: its checkpoint is no longer kept, and another one gets the name.
    pub(super) fn named(&mut self, name: String, kept: Option<Kept>) {
        self.recording.remove(&name);
        if let Some(kept) = kept {
            self.kept.insert(name, kept);
        }
    }

    pub(super) fn dropped(&mut self, name: &str) {
        self.kept.remove(name);
        self.held.remove(name);
    }

    pub(super) fn held(&mut self, name: String, why: String) {
        self.held.insert(name, why);
    }

    pub(super) fn kept_now(&self) -> &BTreeMap<String, Kept> {
        &self.kept
    }

    pub(super) fn held_now(&self) -> &BTreeMap<String, String> {
        &self.held
    }

    /// Names to be given up now.
    fn take_outdated(&mut self, now: Instant) -> Vec<String> {
        let is_wanted = |name: &&String| self.wishes.get(*name) == Some(&Wish::Drop);
        let outdated: Vec<String> = self.kept.keys().filter(is_wanted).cloned().collect();
        if outdated.is_empty() {
            self.retry_at = None;
        } else if self.retry_at.is_none_or(|at| now >= at) {
            self.retry_at = Some(now + RETRY_AFTER);
            return outdated;
        }
        Vec::new()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }
}

impl Machine {
    /// Names what can be named, and gives up what is to go.
    pub(super) fn advance_naming(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if let State::Running(running) = &self.state
            && running.is_last_complete()
            && self.naming.is_due()
        {
            // There will be no other.
            self.naming.begin();
            self.naming.wait(self.completed);
        }
        for (name, checkpoint) in self.naming.take_visible(&self.commits) {
            effects.push(Effect::NameSnapshot { name, checkpoint });
        }
        effects.extend(self.naming.take_outdated(now).into_iter().map(Effect::DropSnapshot));
    }
}
