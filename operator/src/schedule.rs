//! Cron schedules in a time zone: five fields, and when they fire. Pure.
//!
//! As in cron: when both days are restricted, either is enough; 7 is Sunday too; a time that a clock
//! leaps over is skipped, and one that it shows twice fires once, the first time.

use std::str::FromStr;

use chrono::{DateTime, Datelike, Duration, NaiveDate, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

/// How many days a schedule is looked ahead or back: 29 February comes within eight years.
const DAYS_MAX: i64 = 8 * 366;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// When something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both kinds of days are restricted.
    either_day: bool,
    zone: Tz,
}

/// What can't be a schedule; the message says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadSchedule {
    #[error(
        "schedule: {found:?} has {count} fields; five are needed: minute hour day month weekday"
    )]
    Fields { found: String, count: usize },
    #[error("schedule: {part:?} is no {field}: numbers from {least} to {most}, *, a-b, a,b, */n")]
    Field { part: String, field: &'static str, least: u32, most: u32 },
    #[error("schedule: {found:?} never comes")]
    Never { found: String },
    #[error("timeZone: {found:?} is no time zone; an example is Europe/Vienna")]
    Zone { found: String },
}

impl Schedule {
    pub(crate) fn parse(schedule: &str, zone: &str) -> Result<Self, BadSchedule> {
        let zone = Tz::from_str(zone).map_err(|_| BadSchedule::Zone { found: zone.to_owned() })?;
        let fields: Vec<&str> = schedule.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            let found = schedule.to_owned();
            return Err(BadSchedule::Fields { found, count: fields.len() });
        };
        let weekdays = field(weekday, "weekday", 0, 7, &DAYS)?;
        let parsed = Self {
            minutes: field(minute, "minute", 0, 59, &[])?,
            hours: field(hour, "hour", 0, 23, &[])?,
            days: field(day, "day of the month", 1, 31, &[])?,
            months: field(month, "month", 1, 12, &MONTHS)?,
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
            zone,
        };
        let start = DateTime::UNIX_EPOCH;
        let never = BadSchedule::Never { found: schedule.to_owned() };
        parsed.next(start).map(|_| parsed).ok_or(never)
    }

    /// The first time after `after`.
    pub(crate) fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let first = after.with_timezone(&self.zone).date_naive() - Duration::days(1);
        let days = (0..DAYS_MAX).filter_map(|day| first.checked_add_signed(Duration::days(day)));
        let mut times = days.flat_map(|day| self.times(day));
        times.find(|time| *time > after)
    }

    /// The last time up to `until` and after `after`.
    pub(crate) fn last(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let last = until.with_timezone(&self.zone).date_naive() + Duration::days(1);
        for day in 0..DAYS_MAX {
            let day = last.checked_sub_signed(Duration::days(day))?;
            let times = self.times(day);
            if let Some(time) = times.into_iter().rev().find(|time| *time <= until) {
                return Some(time).filter(|time| *time > after);
            }
            if day < after.with_timezone(&self.zone).date_naive() - Duration::days(1) {
                return None;
            }
        }
        None
    }

    /// When it fires on a day, in order.
    fn times(&self, day: NaiveDate) -> Vec<DateTime<Utc>> {
        if !self.is_on(day) {
            return Vec::new();
        }
        let in_set = |set: u64, number: u32| set >> number & 1 == 1;
        let hours = (0..24).filter(|hour| in_set(self.hours, *hour));
        let times = hours.flat_map(|hour| {
            let minutes = (0..60).filter(|minute| in_set(self.minutes, *minute));
            minutes.filter_map(move |minute| day.and_hms_opt(hour, minute, 0))
        });
        let mut times: Vec<DateTime<Utc>> = times
            .filter_map(|time| self.zone.from_local_datetime(&time).earliest())
            .map(|time| time.with_timezone(&Utc))
            .collect();
        times.sort_unstable();
        times
    }

    fn is_on(&self, day: NaiveDate) -> bool {
        let has_day = self.days >> day.day() & 1 == 1;
        let has_weekday = self.weekdays >> day.weekday().num_days_from_sunday() & 1 == 1;
        let is_day = if self.either_day { has_day || has_weekday } else { has_day && has_weekday };
        self.months >> day.month() & 1 == 1 && is_day
    }
}

/// The numbers of a field, as bits.
fn field(
    text: &str,
    name: &'static str,
    least: u32,
    most: u32,
    words: &[&str],
) -> Result<u64, BadSchedule> {
    let wrong = |part: &str| BadSchedule::Field { part: part.to_owned(), field: name, least, most };
    let number = |text: &str| {
        let lower = text.to_ascii_lowercase();
        let word = words.iter().position(|word| *word == lower);
        let first = if most == 12 { 1 } else { 0 };
        let word = word.and_then(|at| u32::try_from(at).ok()).map(|at| at + first);
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = word.or_else(|| text.parse().ok().filter(|_| is_number));
        number.filter(|number| (least..=most).contains(number))
    };
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(a, b)| (a, Some(b)));
        let every: u32 = match step {
            None => 1,
            Some(step) => {
                step.parse().ok().filter(|n| (1..=most).contains(n)).ok_or_else(|| wrong(part))?
            }
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => {
                (number(from).ok_or_else(|| wrong(part))?, number(to).ok_or_else(|| wrong(part))?)
            }
            None => {
                let from = number(range).ok_or_else(|| wrong(part))?;
                (from, if step.is_some() { most } else { from })
            }
        };
        if from > to {
            return Err(wrong(part));
        }
        let numbers = (from..=to).step_by(usize::try_from(every).unwrap_or(1));
        set |= numbers.fold(0_u64, |set, number| set | 1 << number);
    }
    Ok(set)
}

/// The minute of a time, as it stands in the name of a snapshot.
pub(crate) fn minute_name(time: DateTime<Utc>) -> String {
    let (year, month, day) = (time.year(), time.month(), time.day());
    format!("{year:04}{month:02}{day:02}{:02}{:02}", time.hour(), time.minute())
}

/// The time that such a name tells.
pub(crate) fn named_minute(name: &str) -> Option<DateTime<Utc>> {
    let time = chrono::NaiveDateTime::parse_from_str(name, "%Y%m%d%H%M").ok()?;
    (name.len() == 12).then(|| time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn schedule(text: &str, zone: &str) -> Schedule {
        Schedule::parse(text, zone).unwrap()
    }

    #[test]
    fn a_schedule_fires_at_its_times_in_its_zone() {
        let cases = [
            ("0 3 * * *", "UTC", "2026-01-01T03:00:00Z", "2026-01-02T03:00:00Z"),
            ("0 3 * * *", "Europe/Vienna", "2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z"),
            ("0 3 * * *", "Europe/Vienna", "2026-07-01T00:00:00Z", "2026-07-01T01:00:00Z"),
            ("*/15 * * * *", "Asia/Kolkata", "2026-01-01T00:01:00Z", "2026-01-01T00:15:00Z"),
            ("30 23 31 12 *", "Pacific/Auckland", "2026-01-01T00:00:00Z", "2026-12-31T10:30:00Z"),
            ("0 0 * * mon-fri", "UTC", "2026-01-02T12:00:00Z", "2026-01-05T00:00:00Z"),
            ("0 0 * * 7", "UTC", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("0 0 13 * fri", "UTC", "2026-01-03T00:00:00Z", "2026-01-09T00:00:00Z"),
            ("5,10-12/2 6 1 jan *", "UTC", "2026-01-01T06:05:00Z", "2026-01-01T06:10:00Z"),
            ("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ];
        for (text, zone, after, next) in cases {
            assert_eq!(schedule(text, zone).next(at(after)), Some(at(next)), "{text} {zone}");
            let last = schedule(text, zone).last(at(after), at(next));
            assert_eq!(last, Some(at(next)), "{text} {zone}");
        }
    }

    #[test]
    fn of_many_that_were_missed_the_last_one_counts() {
        let hourly = schedule("0 * * * *", "Europe/Vienna");
        let (before, now) = (at("2026-01-01T00:00:00Z"), at("2026-01-03T07:59:00Z"));
        assert_eq!(hourly.last(before, now), Some(at("2026-01-03T07:00:00Z")));
        assert_eq!(hourly.last(at("2026-01-03T07:00:00Z"), now), None, "it was taken");
    }

    #[test]
    fn a_leap_of_the_clock_skips_a_time_and_a_repetition_does_not_repeat_it() {
        let at_half_past_two = schedule("30 2 * * *", "Europe/Vienna");
        let next = at_half_past_two.next(at("2026-03-28T12:00:00Z"));
        assert_eq!(next, Some(at("2026-03-30T00:30:00Z")), "on the 29th there is none");
        let next = at_half_past_two.next(at("2026-10-24T12:00:00Z"));
        assert_eq!(next, Some(at("2026-10-25T00:30:00Z")));
        assert_eq!(at_half_past_two.next(next.unwrap()), Some(at("2026-10-26T01:30:00Z")));
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_what_would_be_one() {
        let refused = |text: &str, zone: &str| Schedule::parse(text, zone).unwrap_err().to_string();
        assert!(refused("* * * *", "UTC").contains("4 fields; five are needed"));
        for text in ["60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8"] {
            assert!(refused(text, "UTC").contains("numbers from"), "{text}");
        }
        for text in ["a * * * *", "5-1 * * * *", "*/0 * * * *", "1,,2 * * * *", "+1 * * * *"] {
            assert!(refused(text, "UTC").contains("is no minute"), "{text}");
        }
        assert!(refused("0 0 30 2 *", "UTC").contains("never comes"));
        assert!(refused("0 0 * * *", "Mars/Base").contains("Europe/Vienna"));
    }

    #[test]
    fn a_minute_is_read_back_from_its_name() {
        let time = at("2026-11-21T15:35:00Z");
        assert_eq!(minute_name(time), "202611211535");
        assert_eq!(named_minute("202611211535"), Some(time));
        for name in ["", "2026112115", "20261121153500", "202613211535", "monday"] {
            assert_eq!(named_minute(name), None, "{name}");
        }
    }
}
