//! What can go wrong in a simulated network.

use std::ops::RangeInclusive;
use std::time::Duration;

use weir_runtime::random;

use super::chance;

/// How a simulated network behaves. Chances are per million messages (or dials).
#[derive(Clone, Debug)]
pub struct NetworkFaults {
    /// How long a message (or a dial) takes.
    pub delay: RangeInclusive<Duration>,
    /// A message takes `stall` longer, and so do all behind it.
    pub stall_per_million: u32,
    /// See `stall_per_million`.
    pub stall: Duration,
    /// The call breaks instead of taking a message; what is in flight is lost.
    pub break_per_million: u32,
    /// A control message arrives twice.
    pub duplicate_control_per_million: u32,
    /// A dial fails.
    pub refuse_dial_per_million: u32,
    /// The sending process is killed before, or after, a message leaves it.
    pub crash_per_million: u32,
    /// Crashes by chance in all.
    pub crashes_max: u64,
    /// When a process was killed, a call of it hangs without a sign instead of breaking.
    pub silent_per_million: u32,
    /// How long after a process was killed its calls break.
    pub reset_delay: RangeInclusive<Duration>,
}

impl NetworkFaults {
    /// Messages take one millisecond; nothing goes wrong but what a test does.
    pub fn none() -> Self {
        let millisecond = Duration::from_millis(1);
        Self {
            delay: millisecond..=millisecond,
            stall_per_million: 0,
            stall: Duration::from_secs(1),
            break_per_million: 0,
            duplicate_control_per_million: 0,
            refuse_dial_per_million: 0,
            crash_per_million: 0,
            crashes_max: 0,
            silent_per_million: 0,
            reset_delay: millisecond..=millisecond,
        }
    }

    /// A bit of everything but crashes.
    pub fn rough() -> Self {
        Self {
            delay: Duration::from_micros(50)..=Duration::from_millis(20),
            stall_per_million: 500,
            break_per_million: 50,
            duplicate_control_per_million: 20_000,
            refuse_dial_per_million: 10_000,
            silent_per_million: 200_000,
            reset_delay: Duration::from_micros(50)..=Duration::from_millis(200),
            ..Self::none()
        }
    }

    /// How long a message takes, and whether it stalls.
    pub(super) fn draw_delay(&self) -> (Duration, bool) {
        let stalls = chance(self.stall_per_million);
        let stalled = if stalls { self.stall } else { Duration::ZERO };
        (stalled + draw(&self.delay), stalls)
    }

    pub(super) fn draw_reset_delay(&self) -> Duration {
        draw(&self.reset_delay)
    }

    pub(super) fn draw_refusal(&self) -> bool {
        chance(self.refuse_dial_per_million)
    }

    pub(super) fn draw_crash(&self, crashes: u64) -> Option<Crash> {
        if crashes >= self.crashes_max || !chance(self.crash_per_million) {
            return None;
        }
        Some(if random::below(2) == 0 { Crash::BeforeSend } else { Crash::AfterSend })
    }
}

fn draw(range: &RangeInclusive<Duration>) -> Duration {
    let (least, most) = (range.start().as_micros(), range.end().as_micros());
    let span = u64::try_from(most.saturating_sub(least)).unwrap_or(u64::MAX - 1);
    *range.start() + Duration::from_micros(random::below(span.saturating_add(1)))
}

/// When a process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The message does not leave it.
    BeforeSend,
    /// The message is on its way.
    AfterSend,
}

/// What happened in a simulated network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkCounters {
    /// Calls asked for.
    pub dials: u64,
    /// Calls that were not made.
    pub refused: u64,
    /// Messages taken from senders.
    pub sent: u64,
    /// Messages put into receivers' queues, repeated ones included.
    pub delivered: u64,
    /// Messages delivered twice.
    pub duplicated: u64,
    /// Messages that never arrived.
    pub lost: u64,
    /// Calls broken by chance.
    pub breaks: u64,
    /// Messages that took longer, with all behind them.
    pub stalls: u64,
    /// Processes killed.
    pub crashes: u64,
    /// Those of them that were killed before their message left them.
    pub crashes_before: u64,
}
