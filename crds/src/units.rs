//! Durations and sizes as a manifest writes them.
//!
//! [`Duration`] is one number and one unit (`250ms`, `10s`, `5m`, `1h`, `7d`); [`Quantity`] is a
//! Kubernetes quantity in bytes (`512Mi`); [`Percent`] a part of a whole (`50%`). All are checked when they are made, so nobody behind
//! this file meets a text that does not parse.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest duration that a manifest may name: 100 years.
const DURATION_MS_MAX: u64 = 36_500 * 24 * 3_600_000;

/// Units of a duration in milliseconds, largest first.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is no duration or no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUnit {
    /// Not one number and one unit.
    #[error("`{text}` is not a duration; write a whole number and ms, s, m, h or d, as in 10s")]
    Duration {
        /// What was found.
        text: String,
    },
    /// More than a hundred years.
    #[error("`{text}` is more than 36500d, the longest duration")]
    DurationTooLong {
        /// What was found.
        text: String,
    },
    /// Not a Kubernetes quantity.
    #[error("`{text}` is not a size; write bytes as a Kubernetes quantity, as in 64Mi")]
    Quantity {
        /// What was found.
        text: String,
    },
    /// Not a part of a whole.
    #[error("`{text}` is not a part of a whole; write 0% to 100%, as in 50%")]
    Percent {
        /// What was found.
        text: String,
    },
    /// Does not fit.
    #[error("`{text}` is more bytes than can be counted")]
    QuantityTooLarge {
        /// What was found.
        text: String,
    },
}

/// A length of time, in whole milliseconds, of at most 36,500 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(u64);

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A duration of so many milliseconds; for defaults.
    pub(crate) const fn from_millis(millis: u32) -> Self {
        Self(millis as u64)
    }

    /// A duration of so many seconds; for defaults.
    pub(crate) const fn from_secs(seconds: u32) -> Self {
        Self(seconds as u64 * 1_000)
    }

    /// Milliseconds.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        self.0
    }
}

impl FromStr for Duration {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        let wrong = || InvalidUnit::Duration { text: text.to_owned() };
        let too_long = || InvalidUnit::DurationTooLong { text: text.to_owned() };
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(digits);
        let (_, unit_ms) =
            DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        if number.is_empty() {
            return Err(wrong());
        }
        let number: u64 = number.parse().map_err(|_| too_long())?;
        let ms = number.checked_mul(*unit_ms).filter(|ms| *ms <= DURATION_MS_MAX);
        ms.map(Self).ok_or_else(too_long)
    }
}

impl fmt::Display for Duration {
    /// The largest unit that gives a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let unit = DURATION_UNITS.iter().find(|(_, ms)| self.0.is_multiple_of(*ms));
        let (name, ms) = unit.expect("every whole number is a multiple of one millisecond");
        write!(f, "{}{name}", self.0 / ms)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]+(ms|s|m|h|d)$",
            "maxLength": 16,
            "x-weir": "duration",
        })
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(u64);

/// Suffixes of a quantity: power of two, then power of ten.
const BINARY_SUFFIXES: [(&str, u32); 6] =
    [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL_SUFFIXES: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

/// Digits of a quantity's number; Kubernetes' own have at most 18 that count.
const QUANTITY_DIGITS_MAX: usize = 20;

impl Quantity {
    /// A quantity of so many mebibytes; for defaults.
    pub(crate) const fn from_mebibytes(mebibytes: u32) -> Self {
        Self((mebibytes as u64) << 20)
    }

    /// Bytes; a fraction of a byte counts as a whole one, as in Kubernetes.
    #[must_use]
    pub fn as_bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Quantity {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        let wrong = || InvalidUnit::Quantity { text: text.to_owned() };
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || fraction.contains('.') || digits.len() > QUANTITY_DIGITS_MAX {
            return Err(wrong());
        }
        let digits: u128 = digits.parse().map_err(|_| wrong())?;
        let (shift, ten) = scale(suffix).ok_or_else(wrong)?;
        let places = i32::try_from(fraction.len()).map_err(|_| wrong())?;
        let too_large = || InvalidUnit::QuantityTooLarge { text: text.to_owned() };
        let scaled = digits.checked_mul(1 << shift).ok_or_else(too_large)?;
        let bytes = times_power_of_ten(scaled, ten - places).ok_or_else(too_large)?;
        u64::try_from(bytes).map(Self).map_err(|_| too_large())
    }
}

/// The powers of two and of ten that a suffix stands for.
fn scale(suffix: &str) -> Option<(u32, i32)> {
    if let Some((_, shift)) = BINARY_SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        return Some((*shift, 0));
    }
    if let Some((_, ten)) = DECIMAL_SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        return Some((0, *ten));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let ten: i32 = exponent.parse().ok()?;
    (-18..=18).contains(&ten).then_some((0, ten))
}

/// `value × 10^exponent`, rounded up.
fn times_power_of_ten(value: u128, exponent: i32) -> Option<u128> {
    let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
    if exponent < 0 { Some(value.div_ceil(power)) } else { value.checked_mul(power) }
}

impl fmt::Display for Quantity {
    /// The largest binary suffix that gives a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |shift: u32| self.0 != 0 && self.0.trailing_zeros() >= shift;
        match BINARY_SUFFIXES.iter().rev().find(|(_, shift)| exact(*shift)) {
            Some((name, shift)) => write!(f, "{}{name}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written<'a> {
            Bytes(u64),
            Text(Cow<'a, str>),
        }
        match Written::deserialize(deserializer)? {
            Written::Bytes(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "x-weir": "quantity",
        })
    }
}

/// A part of a whole, in whole percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u32);

impl Percent {
    /// A half; for defaults.
    pub(crate) const HALF: Self = Self(50);

    /// 0 to 100.
    #[must_use]
    pub fn as_u32(self) -> u32 {
        self.0
    }
}

impl FromStr for Percent {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        let digits = text.strip_suffix('%').filter(|digits| {
            (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
        let percent =
            digits.and_then(|digits| digits.parse().ok()).filter(|percent| *percent <= 100);
        percent.map(Self).ok_or_else(|| InvalidUnit::Percent { text: text.to_owned() })
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Percent {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(100|[0-9]{1,2})%$",
            "maxLength": 4,
            "x-weir": "percent",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_one_number_and_one_unit() {
        let ms = |text: &str| text.parse::<Duration>().map(Duration::as_millis);
        assert_eq!(ms("250ms"), Ok(250));
        assert_eq!(ms("10s"), Ok(10_000));
        assert_eq!(ms("5m"), Ok(300_000));
        assert_eq!(ms("1h"), Ok(3_600_000));
        assert_eq!(ms("7d"), Ok(604_800_000));
        assert_eq!(ms("0s"), Ok(0));
        assert_eq!(ms("36500d"), Ok(DURATION_MS_MAX));
        for text in ["", "s", "10", "-1s", "1.5h", "1h30m", "10 s", "10S", "10us", "١s"] {
            assert!(matches!(ms(text), Err(InvalidUnit::Duration { .. })), "{text}");
        }
        for text in ["36501d", "99999999999999999999s", "18446744073709551615d"] {
            assert!(matches!(ms(text), Err(InvalidUnit::DurationTooLong { .. })), "{text}");
        }
    }

    #[test]
    fn durations_print_in_the_largest_whole_unit() {
        for text in ["0s", "250ms", "10s", "5m", "25h", "7d", "1500ms"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
        assert_eq!("3600s".parse::<Duration>().unwrap().to_string(), "1h");
    }

    #[test]
    fn percentages_are_whole_and_have_their_sign() {
        let percent = |text: &str| text.parse::<Percent>().map(Percent::as_u32);
        assert_eq!((percent("0%"), percent("50%"), percent("100%")), (Ok(0), Ok(50), Ok(100)));
        for text in ["", "%", "50", "101%", "0100%", "-1%", "1.5%", "50 %"] {
            assert!(matches!(percent(text), Err(InvalidUnit::Percent { .. })), "{text}");
        }
        assert_eq!(Percent::HALF.to_string(), "50%");
    }

    #[test]
    fn quantities_are_those_of_kubernetes() {
        let bytes = |text: &str| text.parse::<Quantity>().map(Quantity::as_bytes);
        assert_eq!(bytes("64Mi"), Ok(64 << 20));
        assert_eq!(bytes("1.5Gi"), Ok(3 << 29));
        assert_eq!(bytes("500M"), Ok(500_000_000));
        assert_eq!(bytes("1k"), Ok(1_000));
        assert_eq!(bytes("123"), Ok(123));
        assert_eq!(bytes("1e3"), Ok(1_000));
        assert_eq!(bytes("2E6"), Ok(2_000_000));
        assert_eq!(bytes("2E"), Ok(2_000_000_000_000_000_000));
        assert_eq!(bytes("0.5"), Ok(1), "a fraction of a byte is a whole one");
        assert_eq!(bytes("1500m"), Ok(2));
        assert_eq!(bytes(".5Ki"), Ok(512));
        for text in ["", "Mi", "64MB", "64mi", "-1", "1.2.3", "1e", "1e99", "64 Mi", "1Mi5"] {
            assert!(matches!(bytes(text), Err(InvalidUnit::Quantity { .. })), "{text}");
        }
        for text in ["99999Ei", "20E", "18446744073709551616"] {
            assert!(matches!(bytes(text), Err(InvalidUnit::QuantityTooLarge { .. })), "{text}");
        }
    }

    #[test]
    fn quantities_are_read_from_numbers_too_and_print_exactly() {
        let read = |json: &str| serde_json::from_str::<Quantity>(json).unwrap();
        assert_eq!(read("1048576").to_string(), "1Mi");
        assert_eq!(read("\"1000k\"").to_string(), "1000000");
        assert_eq!(read("0").to_string(), "0");
    }
}
