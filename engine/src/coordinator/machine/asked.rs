//! A checkpoint that somebody asked for: taken at once, whatever the interval. Pure.
//!
//! A wish is a number; another number is another wish. Which wish the last checkpoint answered is in
//! the totals of its record, so a coordinator that takes over does not take it again.

use weir_runtime::clock::Instant;

use super::Machine;

/// The last wish and how far it is; 0: none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    wanted: u64,
    /// What the open checkpoint answers, if one is open.
    open: u64,
    answered: u64,
}

impl Asked {
    /// Whoever takes over knows what was answered.
    pub(super) fn after(answered: u64) -> Self {
        Self { answered, ..Self::default() }
    }

    pub(super) fn ask(&mut self, wish: u64) {
        self.wanted = wish;
    }

    /// A checkpoint begins: it holds all that was there when it was asked for.
    pub(super) fn begin(&mut self) {
        self.open = self.wanted;
    }

    /// What the last checkpoint will have answered when the open one is complete.
    pub(super) fn would_answer(&self) -> u64 {
        if self.open == 0 { self.answered } else { self.open }
    }

    pub(super) fn complete(&mut self) {
        self.answered = self.would_answer();
        self.open = 0;
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered
    }

    fn is_due(&self) -> bool {
        self.wanted != 0 && self.wanted != self.answered
    }
}

impl Machine {
    /// Whether somebody waits for a checkpoint that has not begun.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_due() || self.naming.is_due()
    }

    /// Whether it begins now: one that failed is followed by the usual pause.
    pub(super) fn is_asked_at(&self, now: Instant) -> bool {
        self.is_asked() && (self.schedule.failures() == 0 || now >= self.schedule.due())
    }
}
