//! Text to milliseconds since 1970-01-01T00:00Z and back, as pipeline.md reads and writes time.

/// Milliseconds in a day.
pub const DAY_MS: i64 = 86_400_000;

/// Milliseconds since 1970-01-01T00:00Z of `text`, floored; none if it is no timestamp.
///
/// RFC 3339 with `T` or one blank, up to nine fraction digits, `Z`, an offset, or none (UTC); or
/// `YYYY-MM-DD`.
pub fn parse(text: &str) -> Option<i64> {
    let mut rest = Cursor(text.as_bytes());
    let days = rest.date()?;
    if rest.0.is_empty() {
        return Some(days * DAY_MS);
    }
    rest.one_of(b"Tt ")?;
    let time = rest.time()?;
    let offset_minutes = rest.offset()?;
    rest.0.is_empty().then_some(days * DAY_MS + time - offset_minutes * 60_000)
}

/// Days since 1970-01-01 of `YYYY-MM-DD`; none if `text` is no date.
pub fn parse_date(text: &str) -> Option<i32> {
    let mut rest = Cursor(text.as_bytes());
    let days = rest.date()?;
    rest.0.is_empty().then(|| i32::try_from(days).ok())?
}

/// RFC 3339 with milliseconds and `Z`. Years outside 0000–9999 have a sign and more digits.
pub fn print(time_ms: i64) -> String {
    let date = print_date(time_ms.div_euclid(DAY_MS));
    let ms = time_ms.rem_euclid(DAY_MS);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, fraction) = (ms / 1000 % 60, ms % 1000);
    format!("{date}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z")
}

/// `YYYY-MM-DD` of days since 1970-01-01. Years outside 0000–9999 have a sign and more digits.
pub fn print_date(days: i64) -> String {
    let (year, month, day) = civil_of_days(days);
    if (0..=9999).contains(&year) {
        format!("{year:04}-{month:02}-{day:02}")
    } else {
        format!("{year:+05}-{month:02}-{day:02}")
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (Howard Hinnant, `days_from_civil`).
fn days_of_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_of_civil`]: year, month, day.
fn civil_of_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// What is still unread.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn one_of(&mut self, allowed: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        allowed.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    /// Exactly `count` digits.
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        digits.iter().try_fold(0, |number, digit| {
            digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0'))
        })
    }

    fn date(&mut self) -> Option<i64> {
        let year = self.digits(4)?;
        self.one_of(b"-")?;
        let month = self.digits(2)?;
        self.one_of(b"-")?;
        let day = self.digits(2)?;
        let valid = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
        valid.then(|| days_of_civil(year, month, day))
    }

    /// `HH:MM:SS` and a fraction, in milliseconds. A leap second is the second after it.
    fn time(&mut self) -> Option<i64> {
        let hour = self.digits(2)?;
        self.one_of(b":")?;
        let minute = self.digits(2)?;
        self.one_of(b":")?;
        let second = self.digits(2)?;
        let second_max = if minute == 59 { 60 } else { 59 };
        let valid = hour <= 23 && minute <= 59 && second <= second_max;
        let ms = self.fraction()?;
        valid.then_some(((hour * 60 + minute) * 60 + second) * 1000 + ms)
    }

    fn fraction(&mut self) -> Option<i64> {
        if self.one_of(b".").is_none() {
            return Some(0);
        }
        let count = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&count) {
            return None;
        }
        let mut ms = 0;
        for place in 0..count {
            let digit = self.digits(1)?;
            ms += [100, 10, 1].get(place).map_or(0, |weight| weight * digit);
        }
        Some(ms)
    }

    /// Minutes east of UTC: `Z`, `±HH:MM`, `±HHMM`, `±HH`, or nothing.
    fn offset(&mut self) -> Option<i64> {
        if self.0.is_empty() || self.one_of(b"Zz").is_some() {
            return Some(0);
        }
        let sign = if self.one_of(b"+-")? == b'-' { -1 } else { 1 };
        let hours = self.digits(2)?;
        let minutes = match self.0.len() {
            0 => 0,
            2 => self.digits(2)?,
            _ => {
                self.one_of(b":")?;
                self.digits(2)?
            }
        };
        (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let base = 1_357_034_400_000; // 2013-01-01T10:00:00Z
        for (text, expected) in [
            ("2013-01-01T10:00:00Z", base),
            ("2013-01-01t10:00:00z", base),
            ("2013-01-01 10:00:00", base),
            ("2013-01-01T10:00:00+00:00", base),
            ("2013-01-01T12:30:00+02:30", base),
            ("2013-01-01T12:30:00+0230", base),
            ("2013-01-01T05:00:00-05", base),
            ("2013-01-01T10:00:00.1Z", base + 100),
            ("2013-01-01T10:00:00.123456789Z", base + 123),
            ("2013-01-01T10:00:00.999999999", base + 999),
            ("2013-01-01", base - 36_000_000),
            ("1969-12-31T23:59:59.999999Z", -1),
            ("1969-12-31T23:59:59.9999", -1),
            ("1970-01-01T00:00:00Z", 0),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("2000-02-29", 951_782_400_000),
            ("0000-01-01", -62_167_219_200_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "2013",
            "1357034400000",
            "2013-1-1",
            "2013-13-01",
            "2013-00-01",
            "2013-02-29",
            "1900-02-29",
            "2013-01-32",
            "2013-01-01T",
            "2013-01-01  10:00:00",
            "2013-01-01T10:00",
            "2013-01-01T24:00:00",
            "2013-01-01T10:60:00",
            "2013-01-01T10:00:60",
            "2013-01-01T10:00:00.",
            "2013-01-01T10:00:00.1234567890",
            "2013-01-01T10:00:00 Z",
            "2013-01-01T10:00:00+24:00",
            "2013-01-01T10:00:00+1",
            "2013-01-01T10:00:00Zx",
            " 2013-01-01",
            "2013-01-01Z",
            "٢٠١٣-01-01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        for time_ms in [0, -1, 1, 951_782_400_000, -62_167_219_200_000, 253_402_300_799_999] {
            assert_eq!(parse(&print(time_ms)), Some(time_ms));
        }
        for day in (-800_000..800_000).step_by(97) {
            let (year, month, date) = civil_of_days(day);
            assert_eq!(days_of_civil(year, month, date), day);
        }
        assert_eq!(print(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(print(253_402_300_800_000), "+10000-01-01T00:00:00.000Z");
        assert_eq!(print(-62_167_219_200_001), "-0001-12-31T23:59:59.999Z");
        assert_eq!(print(i64::MAX).len(), "+292278994-08-17T07:12:55.807Z".len());
        assert_eq!(print_date(15_706), "2013-01-01");
    }
}
