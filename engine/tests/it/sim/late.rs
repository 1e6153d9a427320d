//! Results of jobs some of whose rows are too late. Which of them are dropped depends on how far the
//! watermark was when they came, so each result names its rows: those that a single reader of all
//! would find in time must be there, the others may be.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weir_engine::pipeline::spec::WindowSpec;

use super::job::{Computed, Query};
use super::life::Reached;
use super::model::{Event, Sums, aligned};
use super::verdict::check_output;

pub(crate) fn check(query: &Query, rows: &[Value], reached: &mut Reached) -> Result<(), String> {
    let Computed::Windows { window, lateness_ms, .. } = query.computed else {
        return Err("only windows have late rows".to_owned());
    };
    let events: BTreeMap<i64, Event> =
        query.all_events().into_iter().map(|event| (event.seq, event)).collect();
    let mut used: BTreeMap<(i64, i64), usize> = BTreeMap::new();
    let mut expected = Vec::new();
    let mut closed = BTreeSet::new();
    for row in rows {
        let start = row["window_start"].as_i64().ok_or("a row without a window")?;
        let end = row["window_end"].as_i64().ok_or("a row without a window")?;
        let seqs = row["rows"].as_array().ok_or("a result without its rows")?;
        let named = seqs.iter().map(|seq| events.get(&seq.as_i64()?)).collect::<Option<Vec<_>>>();
        let named = named.ok_or_else(|| format!("{row} names no event"))?;
        let key = row["key"].as_str().ok_or("a row without a key")?;
        let is_own = |event: &&Event| event.key == key && start <= event.time && event.time < end;
        if let Some(alien) = named.iter().find(|event| !is_own(event)) {
            return Err(format!("{alien:?} is not of {row}"));
        }
        if let WindowSpec::Session { gap_ms } = window {
            check_session(&named, (start, end), gap_ms).map_err(|what| format!("{row}: {what}"))?;
        } else if !closed.insert((key, start)) {
            return Err(format!("the window of {row} was written twice"));
        }
        for event in &named {
            let place = if matches!(window, WindowSpec::Session { .. }) { 0 } else { start };
            *used.entry((event.seq, place)).or_default() += 1;
        }
        let mut sums = Sums::of(key, Some((start, end)), &named).row("key");
        sums["rows"] = row["rows"].clone();
        expected.push(sums);
    }
    check_output(&expected, rows)?;
    for event in events.values() {
        let places = match window {
            WindowSpec::Session { gap_ms } => vec![(0, event.time + gap_ms + 1)],
            _ => aligned(event.time, window),
        };
        let mut taken = false;
        for (place, end) in places {
            let times = used.remove(&(event.seq, place)).unwrap_or(0);
            let is_open = event.watermark < end + lateness_ms;
            if times > event.kept || (is_open && times < event.kept) {
                return Err(format!("{event:?} came {times} times into window {place}"));
            }
            taken |= times > 0;
        }
        reached.count("late row dropped", u64::from(event.kept > 0 && !taken));
    }
    match used.first_key_value() {
        None => Ok(()),
        Some(((event, place), _)) => Err(format!("event {event} is not in window {place}")),
    }
}

/// From the first row to a gap behind the last, and nowhere a longer gap.
fn check_session(rows: &[&Event], window: (i64, i64), gap_ms: i64) -> Result<(), String> {
    let mut times: Vec<i64> = rows.iter().map(|row| row.time).collect();
    times.sort_unstable();
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        return Err("has no rows".to_owned());
    };
    if window != (*first, last + gap_ms) {
        return Err(format!("goes from {first} to {last}"));
    }
    match times.windows(2).find(|pair| pair[1] - pair[0] > gap_ms) {
        Some(pair) => Err(format!("nothing comes between {pair:?}")),
        None => Ok(()),
    }
}
