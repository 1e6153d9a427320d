//! Tumbling windows: which one holds a time, when it closes, what is late.
//!
//! Pure. Windows are [start, end), aligned to 1970-01-01T00:00Z by floor and shifted by an offset.
//! At the borders of time the outermost windows are cut to what an `i64` can say; each still has a
//! start of its own, which is its name in the state.

use crate::pipeline::spec::TumbleSpec;

/// "No watermark yet": no row can be late against it.
pub(crate) const WATERMARK_NONE: i64 = i64::MIN;
/// "No row will come any more."
pub(crate) const WATERMARK_END: i64 = i64::MAX;

/// Length of a window's name in the state.
pub(crate) const NAMESPACE_BYTES: usize = 8;

/// [start, end) in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Window {
    /// First millisecond inside.
    pub(crate) start_ms: i64,
    /// First millisecond after it.
    pub(crate) end_ms: i64,
}

/// A tumbling window's rules. `size_ms` is above 0, `lateness_ms` not below.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tumble {
    size_ms: i64,
    offset_ms: i64,
    lateness_ms: i64,
}

impl Tumble {
    /// The rules of a checked step.
    pub(crate) fn new(spec: TumbleSpec, lateness_ms: i64) -> Self {
        Self { size_ms: spec.size_ms.max(1), offset_ms: spec.offset_ms, lateness_ms }
    }

    /// The window that holds `time_ms`.
    pub(crate) fn assign(&self, time_ms: i64) -> Window {
        let shifted = i128::from(time_ms) - i128::from(self.offset_ms);
        let size = i128::from(self.size_ms);
        let start = shifted.div_euclid(size) * size + i128::from(self.offset_ms);
        Window { start_ms: clamp(start), end_ms: clamp(start + size) }
    }

    /// The window of a name made by [`Window::namespace`]; none: no such name.
    pub(crate) fn named(&self, namespace: &[u8]) -> Option<Window> {
        let bytes: [u8; NAMESPACE_BYTES] = namespace.try_into().ok()?;
        let start = (u64::from_be_bytes(bytes) ^ SIGN).cast_signed();
        let window = self.assign(start);
        (window.start_ms == start).then_some(window)
    }

    /// The watermark at which `window` closes: its result is written, later rows are late.
    pub(crate) fn closes_at(&self, window: Window) -> i64 {
        window.end_ms.saturating_add(self.lateness_ms)
    }

    /// Whether `window` is closed for a row that arrives at `watermark`.
    pub(crate) fn is_closed(&self, window: Window, watermark: i64) -> bool {
        watermark >= self.closes_at(window)
    }

    /// What is forwarded once everything up to `watermark` is written.
    pub(crate) fn forwarded(&self, watermark: i64) -> i64 {
        match watermark {
            WATERMARK_END => WATERMARK_END,
            other => other.saturating_sub(self.lateness_ms),
        }
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

fn clamp(time: i128) -> i64 {
    i64::try_from(time).unwrap_or(if time < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;

    fn tumble(size_ms: i64, offset_ms: i64, lateness_ms: i64) -> Tumble {
        Tumble::new(TumbleSpec { size_ms, offset_ms }, lateness_ms)
    }

    fn of(tumble: Tumble, time_ms: i64) -> (i64, i64) {
        let window = tumble.assign(time_ms);
        (window.start_ms, window.end_ms)
    }

    #[test]
    fn windows_are_half_open_and_aligned_to_the_epoch() {
        let hourly = tumble(HOUR, 0, 0);
        assert_eq!(of(hourly, 0), (0, HOUR));
        assert_eq!(of(hourly, HOUR - 1), (0, HOUR));
        assert_eq!(of(hourly, HOUR), (HOUR, 2 * HOUR));
    }

    #[test]
    fn times_before_the_epoch_are_floored() {
        let hourly = tumble(HOUR, 0, 0);
        assert_eq!(of(hourly, -1), (-HOUR, 0));
        assert_eq!(of(hourly, -HOUR), (-HOUR, 0));
        assert_eq!(of(hourly, -HOUR - 1), (-2 * HOUR, -HOUR));
    }

    #[test]
    fn a_week_starts_on_thursday_unless_shifted() {
        assert_eq!(of(tumble(7 * DAY, 0, 0), 6 * DAY), (0, 7 * DAY));
        assert_eq!(of(tumble(7 * DAY, 4 * DAY, 0), 6 * DAY), (4 * DAY, 11 * DAY));
        assert_eq!(of(tumble(7 * DAY, 4 * DAY, 0), 3 * DAY), (-3 * DAY, 4 * DAY));
    }

    #[test]
    fn a_window_closes_at_its_end_plus_lateness() {
        let hourly = tumble(HOUR, 0, 1_000);
        let window = hourly.assign(0);
        assert!(!hourly.is_closed(window, HOUR + 999));
        assert!(hourly.is_closed(window, HOUR + 1_000));
        assert!(!hourly.is_closed(window, WATERMARK_NONE));
        assert_eq!(hourly.forwarded(HOUR + 1_000), HOUR);
        assert_eq!(hourly.forwarded(WATERMARK_END), WATERMARK_END);
        assert_eq!(hourly.forwarded(WATERMARK_NONE), WATERMARK_NONE);
        assert_eq!(window.result_time_ms(), HOUR - 1);
    }

    #[test]
    fn the_ends_of_time_have_windows() {
        for rules in [tumble(HOUR, 0, 5), tumble(i64::MAX, 1, i64::MAX), tumble(1, i64::MIN, 0)] {
            for time in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
                let window = rules.assign(time);
                assert!(window.start_ms <= time && time <= window.end_ms);
                assert_eq!(rules.named(&window.namespace()), Some(window));
                assert!(rules.is_closed(window, WATERMARK_END));
            }
        }
    }

    #[test]
    fn names_of_other_lengths_or_places_are_none_of_ours() {
        let hourly = tumble(HOUR, 0, 0);
        assert_eq!(hourly.named(&[0; 7]), None);
        assert_eq!(hourly.named(&Window { start_ms: 1, end_ms: 2 }.namespace()), None);
    }

    proptest! {
        #[test]
        fn a_window_holds_its_times_and_only_those(
            time in any::<i64>(), size in 1..i64::MAX, offset in any::<i64>()
        ) {
            let rules = tumble(size, offset, 0);
            let window = rules.assign(time);
            prop_assert!(window.start_ms <= time);
            prop_assert!(time < window.end_ms || window.end_ms == i64::MAX);
            prop_assert_eq!(rules.assign(window.start_ms), window);
            prop_assert_eq!(rules.named(&window.namespace()), Some(window));
            if window.start_ms > i64::MIN {
                prop_assert_eq!(rules.assign(window.start_ms - 1).end_ms, window.start_ms);
            }
        }

        #[test]
        fn names_sort_as_windows(one in any::<i64>(), two in any::<i64>()) {
            let rules = tumble(60_000, 0, 0);
            let (one, two) = (rules.assign(one), rules.assign(two));
            prop_assert_eq!(one.cmp(&two), one.namespace().cmp(&two.namespace()));
        }
    }
}
