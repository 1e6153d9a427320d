//! What a simulated job must give: slow, obvious, over a list of all events.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weir_engine::pipeline::spec::WindowSpec;

use super::draw::Draw;
use super::job::{AGAIN_MS, BUCKETS, Behind, Computed, Input, Query};

/// Event time of event 0 of generated sources, as their documentation says.
const FIRST_TIME_MS: i64 = 1_436_918_400_000;

/// A row that was read.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) key: String,
    pub(crate) seq: i64,
    pub(crate) time: i64,
    /// The greatest watermark that can have come before it: that of a single reader of all.
    pub(crate) watermark: i64,
    /// How often it comes through the filters.
    pub(crate) kept: usize,
}

/// Values of a result.
#[derive(Clone, Debug)]
pub(crate) struct Sums {
    pub(crate) key: Value,
    pub(crate) window: Option<(i64, i64)>,
    pub(crate) n: i64,
    pub(crate) total: i64,
    pub(crate) least: i64,
    pub(crate) most: i64,
    pub(crate) mean: f64,
}

impl Query {
    /// All events in the order in which a single reader reads them.
    pub(crate) fn all_events(&self) -> Vec<Event> {
        let mut random = Draw(0);
        let mut jitter = Draw(self.events);
        let mut greatest = i64::MIN;
        let event = |seq: u64| {
            let number = i64::try_from(seq).expect("small");
            let drawn = (u128::from(random.next()) * u128::from(self.distinct)) >> 64;
            let (key, time) = match self.input {
                Input::Keys => (format!("k{drawn:08}"), number),
                Input::Sequence { every_ms } => {
                    (format!("{}", seq % self.distinct), number * every_ms.cast_signed())
                }
                Input::Files { disorder_ms, .. } => {
                    let early = jitter.below(disorder_ms.max(1)).cast_signed();
                    (format!("k{drawn}"), number - early)
                }
            };
            let time = FIRST_TIME_MS + time;
            let watermark = greatest;
            greatest = greatest.max(time - self.delay_ms);
            Event { key, seq: number, time, watermark, kept: self.kept(number) }
        };
        (0..self.events).map(event).collect()
    }

    /// The ndjson files, by name.
    pub(crate) fn input_files(&self) -> Vec<(String, String)> {
        let Input::Files { files, .. } = self.input else { return Vec::new() };
        let events = self.all_events();
        let length = events.len().div_ceil(usize::try_from(files).expect("small"));
        let line = |event: &Event| {
            format!("{}\n", json!({"key": event.key, "seq": event.seq, "time": event.time}))
        };
        let file = |(number, events): (usize, &[Event])| {
            (format!("{number:02}.ndjson"), events.iter().map(line).collect())
        };
        events.chunks(length.max(1)).enumerate().map(file).collect()
    }

    /// How often each event must be committed to the sink before the aggregate.
    pub(crate) fn expected_raw(&self) -> BTreeMap<i64, usize> {
        let kept = self.all_events().into_iter().map(|event| (event.seq, event.kept));
        kept.filter(|(_, times)| self.with_raw && *times > 0).collect()
    }

    /// The rows that must be there in the end, of a job without rows that are too late.
    pub(crate) fn expected(&self) -> Vec<Value> {
        let events = self.all_events();
        let kept: Vec<&Event> =
            events.iter().flat_map(|event| std::iter::repeat_n(event, event.kept)).collect();
        let results = match self.computed {
            Computed::Latest => return latest(&kept),
            Computed::Windows { window, .. } => windows(&kept, window),
            Computed::Totals { ttl_ms } => totals(&kept, ttl_ms),
        };
        let results = match self.behind {
            Behind::Nothing | Behind::Halves => results,
            Behind::Filtered => results.into_iter().filter(|sums| sums.n % 2 == 0).collect(),
            Behind::Again => {
                again(&results, |sums| (sums.key.clone(), Some(tumble(result_time(sums)))))
            }
            Behind::Stacked if self.key() == "bucket" => {
                again(&results, |sums| (Value::from(sums.n % BUCKETS), None))
            }
            Behind::Stacked => again(&results, |sums| (sums.key.clone(), None)),
        };
        results.iter().map(|sums| sums.row(self.key())).collect()
    }
}

impl Sums {
    /// Of rows that are there.
    pub(crate) fn of(key: &str, window: Option<(i64, i64)>, events: &[&Event]) -> Self {
        let seqs = || events.iter().map(|event| event.seq);
        Self {
            key: Value::from(key),
            window,
            n: events.len().cast_signed() as i64,
            total: seqs().sum(),
            least: seqs().min().expect("there are rows"),
            most: seqs().max().expect("there are rows"),
            mean: seqs().sum::<i64>() as f64 / events.len() as f64,
        }
    }

    /// As it is written, but for the form of times.
    pub(crate) fn row(&self, key: &str) -> Value {
        let mut row = json!({
            key: self.key,
            "n": self.n,
            "total": self.total,
            "least": self.least,
            "most": self.most,
            "mean": self.mean,
        });
        if let Some((start, end)) = self.window {
            row["window_start"] = Value::from(start);
            row["window_end"] = Value::from(end);
        }
        row
    }
}

/// All windows that hold a time, of those that are aligned.
pub(crate) fn aligned(time: i64, window: WindowSpec) -> Vec<(i64, i64)> {
    let (size, every, offset) = match window {
        WindowSpec::Tumble(tumble) => (tumble.size_ms, tumble.size_ms, tumble.offset_ms),
        WindowSpec::Hop { size_ms, every_ms, offset_ms } => (size_ms, every_ms, offset_ms),
        WindowSpec::Session { .. } => unreachable!("a session is not aligned"),
    };
    // Every millisecond at which a window that holds it may start.
    let starts = time - size + 1..=time;
    let starts = starts.filter(|start| (start - offset).rem_euclid(every) == 0);
    starts.map(|start| (start, start + size)).collect()
}

fn windows(kept: &[&Event], window: WindowSpec) -> Vec<Sums> {
    if let WindowSpec::Session { gap_ms } = window {
        return sessions(kept, gap_ms);
    }
    let mut groups: BTreeMap<(&str, (i64, i64)), Vec<&Event>> = BTreeMap::new();
    for event in kept {
        for window in aligned(event.time, window) {
            groups.entry((&event.key, window)).or_default().push(event);
        }
    }
    groups.iter().map(|((key, window), events)| Sums::of(key, Some(*window), events)).collect()
}

fn by_key<'a>(kept: &[&'a Event]) -> BTreeMap<&'a str, Vec<&'a Event>> {
    let mut keys: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in kept {
        keys.entry(&event.key).or_default().push(event);
    }
    keys
}

fn sessions(kept: &[&Event], gap_ms: i64) -> Vec<Sums> {
    let mut results = Vec::new();
    for (key, mut events) in by_key(kept) {
        events.sort_by_key(|event| event.time);
        for session in events.chunk_by(|one, next| next.time - one.time <= gap_ms) {
            let (first, last) = (session[0].time, session[session.len() - 1].time);
            results.push(Sums::of(key, Some((first, last + gap_ms)), session));
        }
    }
    results
}

/// Of each key the last of its lives: what a reader of the changes has.
fn totals(kept: &[&Event], ttl_ms: Option<i64>) -> Vec<Sums> {
    let mut results = Vec::new();
    for (key, events) in by_key(kept) {
        let mut lives =
            events.chunk_by(|one, next| ttl_ms.is_none_or(|ttl| next.time - one.time < ttl));
        let last = lives.next_back().expect("a key has rows");
        results.push(Sums::of(key, None, last));
    }
    results
}

/// The row of each key with the greatest time, and of those the least.
fn latest(kept: &[&Event]) -> Vec<Value> {
    let best = |events: Vec<&Event>| {
        let best = events.iter().map(|event| (-event.time, event.seq)).min().expect("rows");
        (-best.0, best.1)
    };
    let row = |(key, events)| {
        let (time, seq) = best(events);
        json!({"key": key, "seq": seq, "time": time})
    };
    by_key(kept).into_iter().map(row).collect()
}

fn result_time(sums: &Sums) -> i64 {
    sums.window.expect("the result of a window").1 - 1
}

fn tumble(time: i64) -> (i64, i64) {
    let start = time.div_euclid(AGAIN_MS) * AGAIN_MS;
    (start, start + AGAIN_MS)
}

/// Groups over results: counts and sums added up, the mean of the counts.
fn again(results: &[Sums], group: impl Fn(&Sums) -> (Value, Option<(i64, i64)>)) -> Vec<Sums> {
    type Place = (String, Option<(i64, i64)>);
    let mut groups: BTreeMap<Place, (Value, Vec<&Sums>)> = BTreeMap::new();
    for sums in results {
        let (key, window) = group(sums);
        let entry = groups.entry((key.to_string(), window)).or_insert((key, Vec::new()));
        entry.1.push(sums);
    }
    let sum = |((_, window), (key, parts)): ((String, _), (Value, Vec<&Sums>))| Sums {
        key,
        window,
        n: parts.iter().map(|part| part.n).sum(),
        total: parts.iter().map(|part| part.total).sum(),
        least: parts.iter().map(|part| part.least).min().expect("there are parts"),
        most: parts.iter().map(|part| part.most).max().expect("there are parts"),
        mean: parts.iter().map(|part| part.n).sum::<i64>() as f64 / parts.len() as f64,
    };
    groups.into_iter().map(sum).collect()
}
