//! Windows: which ones hold a time, when they close, what is late.
//!
//! Pure. Tumbling and hopping windows are [start, end), aligned to 1970-01-01T00:00Z by floor and
//! shifted by an offset. At the borders of time the outermost windows are cut to what an `i64` can
//! say; each still has a start of its own, which is its name in the state. Sessions are where their
//! rows are; only their rules stand here.

use weir_runtime::sim::planted::{Planted, planted};

use crate::pipeline::spec::WindowSpec;

/// "No watermark yet": no row can be late against it.
pub(crate) const WATERMARK_NONE: i64 = i64::MIN;
/// "No row will come any more."
pub(crate) const WATERMARK_END: i64 = i64::MAX;

/// Length of a window's name in the state.
pub(crate) const NAMESPACE_BYTES: usize = 8;

/// [start, end) in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Window {
    /// First millisecond inside.
    pub(crate) start_ms: i64,
    /// First millisecond after it.
    pub(crate) end_ms: i64,
}

/// Tumbling and hopping windows. Lengths are above 0, `every_ms` is at most `size_ms`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aligned {
    size_ms: i64,
    every_ms: i64,
    offset_ms: i64,
    lateness_ms: i64,
    /// Length of the stretches of time that lie in the same windows.
    pane_ms: i64,
}

/// Sessions: windows that end a gap after their last row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionRules {
    gap_ms: i64,
    lateness_ms: i64,
}

/// The rules of a checked step's window.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WindowRules {
    /// Tumbling, hopping.
    Aligned(Aligned),
    /// Sessions.
    Session(SessionRules),
}

impl WindowRules {
    /// Of a checked step.
    pub(crate) fn new(spec: &WindowSpec, lateness_ms: i64) -> Self {
        match *spec {
            WindowSpec::Tumble(tumble) => {
                let (size_ms, offset_ms) = (tumble.size_ms, tumble.offset_ms);
                Self::Aligned(Aligned::new(size_ms, size_ms, offset_ms, lateness_ms))
            }
            WindowSpec::Hop { size_ms, every_ms, offset_ms } => {
                Self::Aligned(Aligned::new(size_ms, every_ms, offset_ms, lateness_ms))
            }
            WindowSpec::Session { gap_ms } => {
                Self::Session(SessionRules { gap_ms: gap_ms.max(1), lateness_ms })
            }
        }
    }

    /// What is forwarded once everything up to `watermark` is written.
    pub(crate) fn forwarded(&self, watermark: i64) -> i64 {
        let behind = match self {
            Self::Aligned(rules) => rules.lateness_ms,
            Self::Session(rules) => rules.lateness_ms.saturating_add(1),
        };
        match watermark {
            WATERMARK_END => WATERMARK_END,
            other => other.saturating_sub(behind),
        }
    }
}

impl Aligned {
    fn new(size_ms: i64, every_ms: i64, offset_ms: i64, lateness_ms: i64) -> Self {
        let size_ms = size_ms.max(1);
        let every_ms = every_ms.clamp(1, size_ms);
        let pane_ms = greatest_common_divisor(size_ms, every_ms);
        Self { size_ms, every_ms, offset_ms, lateness_ms, pane_ms }
    }

    /// Whether a time lies in one window only, which then is its pane.
    pub(crate) fn is_tumbling(&self) -> bool {
        self.size_ms == self.every_ms
    }

    /// The pane that holds `time_ms`: a stretch whose times all lie in the same windows. Of tumbling
    /// windows it is the window itself.
    pub(crate) fn pane(&self, time_ms: i64) -> Window {
        let start = self.floor(time_ms, self.pane_ms);
        window(start, self.pane_ms)
    }

    /// The windows that hold `pane`, in order of time. At the beginning of time, where several would
    /// get one name, the last of those stands for all.
    pub(crate) fn windows_of(&self, pane: Window) -> impl Iterator<Item = Window> + use<> {
        let (size, every) = (i128::from(self.size_ms), i128::from(self.every_ms));
        let last = self.floor(pane.start_ms, self.every_ms);
        let room = last + size - i128::from(pane.start_ms);
        let count = (room + every - 1) / every;
        let first = last - (count - 1).max(0) * every;
        let size_ms = self.size_ms;
        let starts = (0..count.max(1)).map(move |place| first + place * every);
        starts
            .filter(move |start| *start + every > i128::from(i64::MIN) || *start == last)
            .map(move |start| window(start, size_ms))
    }

    /// The window of a name made by [`Window::namespace`]; none: no such name.
    pub(crate) fn named(&self, namespace: &[u8]) -> Option<Window> {
        let bytes: [u8; NAMESPACE_BYTES] = namespace.try_into().ok()?;
        let start = (u64::from_be_bytes(bytes) ^ SIGN).cast_signed();
        let window = window(self.floor(start, self.every_ms), self.size_ms);
        (window.start_ms == start).then_some(window)
    }

    /// The watermark at which `window` closes: its result is written, later rows are late.
    pub(crate) fn closes_at(&self, window: Window) -> i64 {
        let lateness_ms = if planted(Planted::LatenessForgotten) { 0 } else { self.lateness_ms };
        window.end_ms.saturating_add(lateness_ms)
    }

    /// Whether `window` is closed for a row that arrives at `watermark`.
    pub(crate) fn is_closed(&self, window: Window, watermark: i64) -> bool {
        watermark >= self.closes_at(window)
    }

    /// Whether all windows that hold `pane` are closed for a row that arrives at `watermark`.
    pub(crate) fn is_late(&self, pane: Window, watermark: i64) -> bool {
        let last = window(self.floor(pane.start_ms, self.every_ms), self.size_ms);
        self.is_closed(last, watermark)
    }

    fn floor(&self, time_ms: i64, step_ms: i64) -> i128 {
        let shifted = i128::from(time_ms) - i128::from(self.offset_ms);
        let step = i128::from(step_ms);
        shifted.div_euclid(step) * step + i128::from(self.offset_ms)
    }
}

impl SessionRules {
    /// Rows of one session are at most this far apart.
    pub(crate) fn gap_ms(&self) -> i64 {
        self.gap_ms
    }

    /// The window of a session with these first and last times.
    pub(crate) fn window(&self, first_ms: i64, last_ms: i64) -> Window {
        Window { start_ms: first_ms, end_ms: last_ms.saturating_add(self.gap_ms) }
    }

    /// The watermark at which a session closes whose last row has this time: one beyond its end and
    /// the lateness, since a row exactly a gap after the last one still belongs to it.
    pub(crate) fn closes_at(&self, last_ms: i64) -> i64 {
        self.window(last_ms, last_ms).end_ms.saturating_add(self.lateness_ms).saturating_add(1)
    }

    /// Whether such a session is closed for a row that arrives at `watermark`.
    pub(crate) fn is_closed(&self, last_ms: i64, watermark: i64) -> bool {
        watermark >= self.closes_at(last_ms)
    }

    /// Whether rows at `earlier_ms` and, not before it, at `later_ms` belong together.
    pub(crate) fn reaches(&self, earlier_ms: i64, later_ms: i64) -> bool {
        later_ms <= earlier_ms.saturating_add(self.gap_ms)
    }
}

/// Flips the sign, so that bytes sort as numbers do.
const SIGN: u64 = 1 << 63;

impl Window {
    /// The window's name in the state; sorts by start.
    pub(crate) fn namespace(self) -> [u8; NAMESPACE_BYTES] {
        (self.start_ms.cast_unsigned() ^ SIGN).to_be_bytes()
    }

    /// The event time of the window's result.
    pub(crate) fn result_time_ms(self) -> i64 {
        self.end_ms.saturating_sub(1)
    }
}

fn window(start: i128, size_ms: i64) -> Window {
    Window { start_ms: clamp(start), end_ms: clamp(start + i128::from(size_ms)) }
}

fn clamp(time: i128) -> i64 {
    i64::try_from(time).unwrap_or(if time < 0 { i64::MIN } else { i64::MAX })
}

fn greatest_common_divisor(mut one: i64, mut other: i64) -> i64 {
    while other > 0 {
        (one, other) = (other, one % other);
    }
    one.max(1)
}

#[cfg(test)]
mod tests;
