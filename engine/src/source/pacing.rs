//! `rate`: rows per second of all splits together. Pure; the caller sleeps.

use std::time::Duration;

use crate::source::dealing::Splits;

/// Rows of about this much time are read as one batch, so that a slow source stays smooth.
const BATCH_MS: u64 = 100;
const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// The pace of one subtask. Rows that were late are not made up for.
#[derive(Clone, Debug)]
pub struct Pacing {
    nanos_per_row: u128,
    /// When the next row is due, since the caller's start of time.
    due: Duration,
}

impl Pacing {
    /// The share of one of `width` subtasks in `rate` rows per second. Subtasks that get no split
    /// have no share. `rate` must be above 0. A stream that has some of the events keeps pace with
    /// the others of its source.
    pub fn new(rate: u64, width: u32, splits: &Splits) -> Self {
        let busy =
            splits.count().map_or(u64::from(width), |count| count.clamp(1, u64::from(width)));
        let (rows, events) = splits.share();
        let events_per_second = u128::from(rate.max(1)) * u128::from(rows);
        let nanos_per_row =
            u128::from(busy) * NANOS_PER_SECOND * u128::from(events) / events_per_second;
        Self { nanos_per_row, due: Duration::ZERO }
    }

    /// How long to wait until the next batch may be read, at `now` since the start of time.
    pub fn wait(&self, now: Duration) -> Duration {
        self.due.saturating_sub(now)
    }

    /// How many rows one batch should have: at most `rows_max`, at least one.
    pub fn batch_rows(&self, rows_max: usize) -> usize {
        let batch_nanos = u128::from(BATCH_MS) * 1_000_000;
        let rows = batch_nanos.checked_div(self.nanos_per_row).unwrap_or(u128::MAX);
        usize::try_from(rows).unwrap_or(usize::MAX).clamp(1, rows_max.max(1))
    }

    /// `rows` were read at `now`.
    pub fn took(&mut self, rows: usize, now: Duration) {
        let nanos = self.nanos_per_row.saturating_mul(rows as u128);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.due = self.due.max(now).saturating_add(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::generated::Blocks;

    fn without_end() -> Splits {
        Splits::generated(Blocks::every(None, 1))
    }

    /// Rows that subtasks of `splits` read in `seconds` of simulated time.
    fn rows_read(rate: u64, width: u32, splits: &Splits, seconds: u64) -> u64 {
        let busy = splits.count().map_or(width, |count| u32::try_from(count).unwrap().min(width));
        let end = Duration::from_secs(seconds);
        let mut total = 0;
        for _ in 0..busy {
            let mut pacing = Pacing::new(rate, width, splits);
            let mut now = Duration::ZERO;
            while now < end {
                let rows = pacing.batch_rows(8192);
                pacing.took(rows, now);
                total += rows as u64;
                now += pacing.wait(now);
            }
        }
        total
    }

    #[test]
    fn all_subtasks_together_keep_the_rate() {
        for rate in [1, 7, 1_000, 250_000] {
            for (width, count) in [(1, None), (2, None), (5, Some(2)), (15, Some(100))] {
                let splits = count.map_or_else(without_end, Splits::listed);
                let read = rows_read(rate, width, &splits, 100);
                let slack = rate / 5 + u64::from(width);
                assert!(read.abs_diff(rate * 100) <= slack, "{rate}/s at {width}: {read}");
            }
        }
    }

    #[test]
    fn time_spent_blocked_is_not_made_up_for() {
        let mut pacing = Pacing::new(10, 1, &without_end());
        pacing.took(1, Duration::ZERO);
        let late = Duration::from_secs(50);
        assert_eq!(pacing.wait(late), Duration::ZERO);
        pacing.took(1, late);
        assert_eq!(pacing.wait(late), Duration::from_millis(100));
    }
}
