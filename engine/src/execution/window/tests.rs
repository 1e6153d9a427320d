//! Windows at all times, and their names.

use proptest::prelude::*;

use super::*;
use crate::pipeline::spec::TumbleSpec;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn tumble(size_ms: i64, offset_ms: i64, lateness_ms: i64) -> Aligned {
    match WindowRules::new(&WindowSpec::Tumble(TumbleSpec { size_ms, offset_ms }), lateness_ms) {
        WindowRules::Aligned(rules) => rules,
        WindowRules::Session(_) => unreachable!(),
    }
}

fn of(rules: Aligned, time_ms: i64) -> Vec<(i64, i64)> {
    let windows = rules.windows_of(rules.pane(time_ms));
    windows.map(|window| (window.start_ms, window.end_ms)).collect()
}

#[test]
fn windows_are_half_open_and_aligned_to_the_epoch() {
    let hourly = tumble(HOUR, 0, 0);
    assert_eq!(of(hourly, 0), [(0, HOUR)]);
    assert_eq!(of(hourly, HOUR - 1), [(0, HOUR)]);
    assert_eq!(of(hourly, HOUR), [(HOUR, 2 * HOUR)]);
}

#[test]
fn times_before_the_epoch_are_floored() {
    let hourly = tumble(HOUR, 0, 0);
    assert_eq!(of(hourly, -1), [(-HOUR, 0)]);
    assert_eq!(of(hourly, -HOUR), [(-HOUR, 0)]);
    assert_eq!(of(hourly, -HOUR - 1), [(-2 * HOUR, -HOUR)]);
}

#[test]
fn a_week_starts_on_thursday_unless_shifted() {
    assert_eq!(of(tumble(7 * DAY, 0, 0), 6 * DAY), [(0, 7 * DAY)]);
    assert_eq!(of(tumble(7 * DAY, 4 * DAY, 0), 6 * DAY), [(4 * DAY, 11 * DAY)]);
    assert_eq!(of(tumble(7 * DAY, 4 * DAY, 0), 3 * DAY), [(-3 * DAY, 4 * DAY)]);
}

#[test]
fn a_row_is_in_all_hopping_windows_that_hold_it() {
    let hop = Aligned::new(10, 4, 0, 0);
    assert_eq!(of(hop, 0), [(-8, 2), (-4, 6), (0, 10)]);
    assert_eq!(of(hop, 2), [(-4, 6), (0, 10)]);
    assert_eq!(of(hop, 13), [(4, 14), (8, 18), (12, 22)]);
    assert_eq!(of(Aligned::new(10, 4, 1, 0), 13), [(5, 15), (9, 19), (13, 23)]);
    assert_eq!(of(Aligned::new(10, 10, 0, 0), 13), [(10, 20)]);
}

#[test]
fn a_row_is_late_when_its_last_window_is_closed() {
    let hop = Aligned::new(10, 4, 0, 3);
    let pane = hop.pane(2);
    assert!(!hop.is_late(pane, 12));
    assert!(hop.is_late(pane, 13));
}

#[test]
fn a_window_closes_at_its_end_plus_lateness() {
    let hourly = tumble(HOUR, 0, 1_000);
    let window = hourly.pane(0);
    assert!(!hourly.is_closed(window, HOUR + 999));
    assert!(hourly.is_closed(window, HOUR + 1_000));
    assert!(!hourly.is_closed(window, WATERMARK_NONE));
    let rules = WindowRules::Aligned(hourly);
    assert_eq!(rules.forwarded(HOUR + 1_000), HOUR);
    assert_eq!(rules.forwarded(WATERMARK_END), WATERMARK_END);
    assert_eq!(rules.forwarded(WATERMARK_NONE), WATERMARK_NONE);
    assert_eq!(window.result_time_ms(), HOUR - 1);
}

#[test]
fn a_session_closes_behind_its_end_and_lateness() {
    let session = SessionRules { gap_ms: 10, lateness_ms: 5 };
    assert!(session.reaches(100, 110) && !session.reaches(100, 111));
    assert!(!session.is_closed(100, 115));
    assert!(session.is_closed(100, 116));
    let rules = WindowRules::Session(session);
    // What it writes at 116 has time 109 and is not late behind it.
    assert_eq!(rules.forwarded(115), 109);
    assert_eq!(rules.forwarded(WATERMARK_END), WATERMARK_END);
}

#[test]
fn the_ends_of_time_have_windows() {
    let all = [
        tumble(HOUR, 0, 5),
        tumble(i64::MAX, 1, i64::MAX),
        tumble(1, i64::MIN, 0),
        Aligned::new(HOUR, 7, 3, 0),
        Aligned::new(i64::MAX, i64::MAX / 2, 5, 0),
    ];
    for rules in all {
        for time in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
            let windows: Vec<Window> = rules.windows_of(rules.pane(time)).collect();
            assert!(!windows.is_empty());
            assert!(windows.is_sorted_by(|one, other| one.start_ms < other.start_ms));
            for window in windows {
                assert!(window.start_ms <= time && time <= window.end_ms);
                assert_eq!(rules.named(&window.namespace()), Some(window));
                assert!(rules.is_closed(window, WATERMARK_END));
            }
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
        let window = rules.pane(time);
        prop_assert!(window.start_ms <= time);
        prop_assert!(time < window.end_ms || window.end_ms == i64::MAX);
        prop_assert_eq!(rules.pane(window.start_ms), window);
        prop_assert_eq!(rules.named(&window.namespace()), Some(window));
        if window.start_ms > i64::MIN {
            prop_assert_eq!(rules.pane(window.start_ms - 1).end_ms, window.start_ms);
        }
    }

    /// Against every start that could be one.
    #[test]
    fn hopping_windows_are_all_that_hold_a_time(
        time in -300..300_i64, size in 1..60_i64, every in 1..60_i64, offset in -70..70_i64
    ) {
        let every = every.min(size);
        let rules = Aligned::new(size, every, offset, 0);
        let holds = |start: &i64| *start <= time && time < start + size;
        let starts = (-500..500).filter(|start: &i64| (start - offset).rem_euclid(every) == 0);
        let expected: Vec<_> =
            starts.filter(holds).map(|start| (start, start + size)).collect();
        prop_assert_eq!(of(rules, time), expected);
        let pane = rules.pane(time);
        prop_assert_eq!(of(rules, pane.start_ms), of(rules, pane.end_ms - 1));
    }

    #[test]
    fn names_sort_as_windows(one in any::<i64>(), two in any::<i64>()) {
        let rules = tumble(60_000, 0, 0);
        let (one, two) = (rules.pane(one), rules.pane(two));
        prop_assert_eq!(one.cmp(&two), one.namespace().cmp(&two.namespace()));
    }
}
