//! What a keyed step means, row by row, over plain lists.

use std::collections::BTreeMap;

use super::harness::Setup;
use crate::pipeline::spec::WindowSpec;

/// (key, window's start and end) to (rows, sum, greatest time). Without a window start and end are 0.
/// Behind a session that is closed, late rows may make another one at the very same place.
pub(super) type ResultRows = BTreeMap<Place, Vec<Values>>;
pub(super) type Place = (u8, i64, i64);
pub(super) type Values = (i64, i64, i64);

/// The rows of one key in one window, session or life: their times and numbers.
type Seen = Vec<(i64, i64)>;

pub(super) struct Model {
    window: Option<WindowSpec>,
    lateness_ms: i64,
    ttl_ms: Option<i64>,
    watermark: i64,
    next: i64,
    open: Vec<(u8, i64, i64, Seen)>,
    pub(super) results: ResultRows,
    pub(super) late: usize,
}

impl Model {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            window: setup.window,
            lateness_ms: setup.lateness_ms,
            ttl_ms: setup.ttl_ms,
            watermark: i64::MIN,
            next: 0,
            open: Vec::new(),
            results: ResultRows::new(),
            late: 0,
        }
    }

    pub(super) fn row(&mut self, key: u8, time: i64) {
        let row = (time, self.next);
        self.next += 1;
        match self.window {
            Some(WindowSpec::Tumble(tumble)) => {
                self.aligned(key, row, tumble.size_ms, tumble.size_ms, tumble.offset_ms);
            }
            Some(WindowSpec::Hop { size_ms, every_ms, offset_ms }) => {
                self.aligned(key, row, size_ms, every_ms, offset_ms);
            }
            Some(WindowSpec::Session { gap_ms }) => self.session(key, row, gap_ms),
            None => self.group(key, row),
        }
    }

    fn aligned(&mut self, key: u8, row: (i64, i64), size: i64, every: i64, offset: i64) {
        let mut taken = false;
        // Every millisecond at which a window that holds the row may start.
        for start in row.0 - size + 1..=row.0 {
            let end = start + size;
            let is_window = (start - offset).rem_euclid(every) == 0;
            if !is_window || self.watermark >= end + self.lateness_ms {
                continue;
            }
            taken = true;
            match self.open.iter_mut().find(|open| (open.0, open.1) == (key, start)) {
                Some(open) => open.3.push(row),
                None => self.open.push((key, start, end, vec![row])),
            }
        }
        self.late += usize::from(!taken);
    }

    fn session(&mut self, key: u8, row: (i64, i64), gap: i64) {
        let closed =
            |end: i64, watermark: i64, lateness: i64| watermark > end.saturating_add(lateness);
        let (watermark, lateness) = (self.watermark, self.lateness_ms);
        let takes = |open: &(u8, i64, i64, Seen)| {
            open.0 == key
                && !closed(open.2, watermark, lateness)
                && open.1 - gap <= row.0
                && row.0 <= open.2
        };
        let (taken, mut rest): (Vec<_>, Vec<_>) = self.open.drain(..).partition(takes);
        if taken.is_empty() && closed(row.0 + gap, watermark, lateness) {
            self.late += 1;
        } else {
            let mut seen: Seen = taken.into_iter().flat_map(|open| open.3).collect();
            seen.push(row);
            let times = || seen.iter().map(|row| row.0);
            let (first, last) = (times().min().unwrap(), times().max().unwrap());
            rest.push((key, first, last + gap, seen));
        }
        self.open = rest;
    }

    fn group(&mut self, key: u8, row: (i64, i64)) {
        let now = row.0.max(self.watermark);
        if let Some(ttl) = self.ttl_ms {
            let is_over = |seen: &Seen| now >= seen.iter().map(|row| row.0).max().unwrap() + ttl;
            self.open.retain(|open| open.0 != key || !is_over(&open.3));
        }
        let place = self.open.iter().position(|open| open.0 == key).unwrap_or_else(|| {
            self.open.push((key, 0, 0, Vec::new()));
            self.open.len() - 1
        });
        self.open[place].3.push(row);
        // What a reader of the changes has: also of lives that are over.
        let result = value(&self.open[place].3);
        self.results.insert((key, 0, 0), vec![result]);
    }

    pub(super) fn watermark(&mut self, step: i64) {
        self.watermark = self.watermark.max(0) + step;
        self.close();
    }

    pub(super) fn end(&mut self) {
        self.watermark = i64::MAX;
        self.close();
        self.results.values_mut().for_each(|values| values.sort_unstable());
    }

    fn close(&mut self) {
        let is_session = match self.window {
            None => return,
            Some(window) => matches!(window, WindowSpec::Session { .. }),
        };
        let (watermark, lateness) = (self.watermark, self.lateness_ms);
        let closes =
            |open: &(u8, i64, i64, Seen)| watermark >= open.2 + lateness + i64::from(is_session);
        let (closed, open): (Vec<_>, Vec<_>) = self.open.drain(..).partition(closes);
        self.open = open;
        for (key, start, end, seen) in closed {
            self.results.entry((key, start, end)).or_default().push(value(&seen));
        }
    }
}

/// The results of the rows that are there.
pub(super) fn totals(rows: &[(u8, i64, i64)]) -> ResultRows {
    let mut seen: BTreeMap<u8, Seen> = BTreeMap::new();
    for (key, number, time) in rows {
        seen.entry(*key).or_default().push((*time, *number));
    }
    seen.iter().map(|(key, seen)| ((*key, 0, 0), vec![value(seen)])).collect()
}

fn value(seen: &Seen) -> Values {
    let sum = seen.iter().map(|row| row.1).sum();
    (seen.len() as i64, sum, seen.iter().map(|row| row.0).max().unwrap())
}
