//! Credit: how much a sender may have on its way, in rows and in bytes.
//!
//! The receiver names a window; the sender keeps what it has sent and not got back inside it, or
//! sends a single batch when nothing is on its way, so that a batch larger than the window passes
//! alone. The receiver gives credit back as it consumes, and moves the window towards what it
//! consumes in one second, so that a barrier never stands behind more than that (or one batch).
//!
//! Rows need credit; barriers, watermarks, progress and `End` do not.

use std::time::Duration;

use weir_runtime::clock::Instant;

use crate::protocol::Credit;

/// The least and the greatest window of a channel, and the one it begins with.
pub const WINDOW_MIN: Cost = Cost { rows: 1 << 10, bytes: 256 << 10 };
/// See [`WINDOW_MIN`].
pub const WINDOW_MAX: Cost = Cost { rows: 1 << 16, bytes: 8 << 20 };
/// See [`WINDOW_MIN`].
pub const WINDOW_START: Cost = Cost { rows: 1 << 13, bytes: 1 << 20 };

/// How often a receiver looks at its rate.
const MEASURE_EVERY: Duration = Duration::from_millis(200);
/// A receiver gives credit back when this part of the window is owed, or its queue is empty.
const OWED_PART: u64 = 4;

/// Rows and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Cost {
    fn plus(self, other: Self) -> Self {
        Self {
            rows: self.rows.saturating_add(other.rows),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            rows: self.rows.saturating_sub(other.rows),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    fn within(self, limit: Self) -> bool {
        self.rows <= limit.rows && self.bytes <= limit.bytes
    }

    fn clamp(self, least: Self, greatest: Self) -> Self {
        Self {
            rows: self.rows.clamp(least.rows, greatest.rows),
            bytes: self.bytes.clamp(least.bytes, greatest.bytes),
        }
    }

    fn max(self, other: Self) -> Self {
        Self { rows: self.rows.max(other.rows), bytes: self.bytes.max(other.bytes) }
    }
}

/// The sender's side: what is on its way, and how much may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    limit: Cost,
    used: Cost,
}

impl Window {
    pub(crate) fn new(limit: Cost) -> Self {
        Self { limit, used: Cost::default() }
    }

    /// Whether a batch of this cost may go now.
    pub(crate) fn admits(&self, cost: Cost) -> bool {
        self.used == Cost::default() || self.used.plus(cost).within(self.limit)
    }

    /// A batch goes.
    pub(crate) fn take(&mut self, cost: Cost) {
        self.used = self.used.plus(cost);
    }

    /// The receiver gave back `returned` and names the window.
    pub(crate) fn give_back(&mut self, returned: Cost, limit: Cost) {
        self.used = self.used.minus(returned);
        self.limit = limit;
    }
}

/// The receiver's side: what it owes the sender, and the window that fits its rate.
#[derive(Debug)]
pub(crate) struct Receipts {
    window: Cost,
    owed: Cost,
    measured: Cost,
    since: Instant,
    /// The queue ran empty, or reading paused, since `since`: the rate says nothing of the receiver's limit.
    idle: bool,
}

impl Receipts {
    pub(crate) fn new(now: Instant) -> Self {
        let none = Cost::default();
        Self { window: WINDOW_START, owed: none, measured: none, since: now, idle: true }
    }

    /// A batch of this cost left the queue; `empty`: nothing is behind it.
    pub(crate) fn consumed(&mut self, cost: Cost, empty: bool, now: Instant) {
        self.owed = self.owed.plus(cost);
        self.measured = self.measured.plus(cost);
        self.idle |= empty;
        self.measure(now);
    }

    /// Whether what is owed is worth a message now, see [`Receipts::settle`]. `empty`: the queue
    /// is, so the sender may be waiting for the last bit, and nothing else would send it.
    pub(crate) fn is_due(&self, empty: bool) -> bool {
        let owes = self.owed != Cost::default();
        owes && (empty || !self.owed.within(part(self.window, OWED_PART)))
    }

    /// Reading was paused (alignment): the time since then is not the receiver's doing.
    pub(crate) fn paused(&mut self) {
        self.idle = true;
    }

    /// What goes to the sender now; from here on nothing is owed.
    pub(crate) fn settle(&mut self) -> Credit {
        let owed = std::mem::take(&mut self.owed);
        Credit {
            rows: owed.rows,
            bytes: owed.bytes,
            window_rows: self.window.rows,
            window_bytes: self.window.bytes,
        }
    }

    fn measure(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < MEASURE_EVERY {
            return;
        }
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let per_second = |count: u64| count.saturating_mul(1000) / millis;
        let rate =
            Cost { rows: per_second(self.measured.rows), bytes: per_second(self.measured.bytes) };
        let wanted = if self.idle { rate.max(self.window) } else { rate };
        self.window = wanted.clamp(WINDOW_MIN, WINDOW_MAX);
        self.measured = Cost::default();
        self.since = now;
        self.idle = false;
    }
}

fn part(cost: Cost, parts: u64) -> Cost {
    Cost { rows: cost.rows / parts, bytes: cost.bytes / parts }
}

/// The credit that a receiver opens a channel with.
pub(crate) fn opening_credit() -> Credit {
    let Cost { rows, bytes } = WINDOW_START;
    Credit { rows: 0, bytes: 0, window_rows: rows, window_bytes: bytes }
}

/// What a message of the peer returns, and the window that it names.
pub(crate) fn read(credit: &Credit) -> (Cost, Cost) {
    let returned = Cost { rows: credit.rows, bytes: credit.bytes };
    let window = Cost { rows: credit.window_rows, bytes: credit.window_bytes };
    (returned, window.clamp(Cost::default(), WINDOW_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(rows: u64, bytes: u64) -> Cost {
        Cost { rows, bytes }
    }

    #[test]
    fn rows_and_bytes_both_bound_what_is_on_its_way() {
        let mut window = Window::new(cost(10, 100));
        window.take(cost(4, 40));
        assert!(window.admits(cost(6, 60)));
        assert!(!window.admits(cost(7, 1)));
        assert!(!window.admits(cost(1, 61)));
        window.give_back(cost(1, 10), cost(10, 100));
        assert!(window.admits(cost(7, 70)));
    }

    #[test]
    fn a_batch_beyond_the_window_passes_alone() {
        let mut window = Window::new(cost(10, 100));
        assert!(window.admits(cost(1000, 1)));
        window.take(cost(1000, 1));
        assert!(!window.admits(cost(1, 1)));
        window.give_back(cost(999, 0), cost(10, 100));
        assert!(!window.admits(cost(1000, 1)), "not yet alone");
        window.give_back(cost(1, 1), cost(10, 100));
        assert!(window.admits(cost(1000, 1)));
    }

    #[test]
    fn what_is_owed_goes_back_at_a_quarter_or_when_the_queue_is_empty() {
        let start = weir_runtime::clock::now();
        let mut receipts = Receipts::new(start);
        receipts.consumed(cost(100, 0), false, start);
        assert!(!receipts.is_due(false));
        assert!(receipts.is_due(true), "also when a barrier was the last in the queue");
        receipts.consumed(cost(WINDOW_START.rows / 4, 0), false, start);
        assert!(receipts.is_due(false));
        let credit = receipts.settle();
        assert_eq!(credit.rows, 100 + WINDOW_START.rows / 4);
        assert!(!receipts.is_due(true), "nothing is owed");
    }

    #[test]
    fn the_window_follows_a_slow_receiver_down_and_a_fast_one_up() {
        let start = weir_runtime::clock::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut receipts = Receipts::new(start);
        receipts.consumed(cost(10, 1000), false, after(200));
        assert_eq!(receipts.settle().window_rows, WINDOW_START.rows, "it began idle");
        receipts.consumed(cost(600, 60_000), false, after(400));
        let slow = receipts.settle();
        assert_eq!((slow.window_rows, slow.window_bytes), (3000, 300_000));
        receipts.consumed(cost(10, 1), true, after(600));
        assert_eq!(receipts.settle().window_rows, 3000, "an empty queue is no slow receiver");
        receipts.consumed(cost(4000, 1), true, after(800));
        assert_eq!(receipts.settle().window_rows, 20_000);
        receipts.consumed(cost(1 << 20, 1 << 30), false, after(1000));
        let fast = receipts.settle();
        assert_eq!((fast.window_rows, fast.window_bytes), (WINDOW_MAX.rows, WINDOW_MAX.bytes));
    }
}
