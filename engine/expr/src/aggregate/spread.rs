//! What variances and deviations need: exact sums of the values and of their squares.
//!
//! n·Σx² − (Σx)² is taken of whole numbers of as many bits as they need and rounded once. So it is
//! as good for values that differ in their last digits alone, and rows can come in any order, be
//! split over states and be taken away again without any trace.

use super::exact_sum::{Canonical, ExactSum, Parts, negate};

/// Exponent of the least bit of a float's square.
const LEAST_SQUARE_EXPONENT: i32 = -2148;

/// Values of one call. 3 to 12 limbs of 8 bytes for each sum as a rule; a row costs two or three
/// additions of three limbs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Spread {
    /// Values.
    pub(super) count: i64,
    /// How many of them are NaN or infinite; they are in no sum.
    pub(super) special: i64,
    pub(super) sum: ExactSum,
    pub(super) squares: ExactSum,
}

/// What is made of a [`Spread`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measure {
    /// Of a sample: divided by n − 1.
    pub(super) sample: bool,
    /// The deviation, which is the variance's root.
    pub(super) root: bool,
}

/// What the least bit of a sum stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Floats: the least float.
    Float,
    /// Integers, and decimals of so many digits behind the point.
    Decimal(i32),
}

/// A sum that no values have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Impossible;

impl Spread {
    /// Adds a float, or takes it away with `sign` −1.
    pub(super) fn add_float(&mut self, value: f64, sign: i64) {
        self.count = self.count.wrapping_add(sign);
        let Some(Parts { mantissa, position, negative }) = Parts::of(value) else {
            self.special = self.special.wrapping_add(sign);
            return;
        };
        let away = sign < 0;
        self.sum.add_part(mantissa, position, negative != away);
        self.add_square(mantissa, mantissa, 2 * position, away);
    }

    /// Adds an integer or an unscaled decimal, or takes it away with `sign` −1.
    pub(super) fn add_integer(&mut self, value: i128, sign: i64) {
        self.count = self.count.wrapping_add(sign);
        let away = sign < 0;
        let (low, high) = halves(value.unsigned_abs());
        self.sum.add_part(low, 0, (value < 0) != away);
        self.sum.add_part(high, 64, (value < 0) != away);
        self.add_square(low, low, 0, away);
        if high != 0 {
            self.add_square(low, high, 65, away);
            self.add_square(high, high, 128, away);
        }
    }

    fn add_square(&mut self, left: u64, right: u64, position: usize, away: bool) {
        let (low, high) = halves(u128::from(left) * u128::from(right));
        self.squares.add_part(low, position, away);
        self.squares.add_part(high, position + 64, away);
    }

    /// Adds all that `from` has seen.
    pub(super) fn merge(&mut self, from: &Self) {
        self.count = self.count.wrapping_add(from.count);
        self.special = self.special.wrapping_add(from.special);
        self.sum.merge(&from.sum);
        self.squares.merge(&from.squares);
    }

    /// Whether some values can have these sums, as far as the sums tell.
    pub(super) fn is_possible(&self) -> bool {
        let numbers = self.count - self.special.max(0);
        let nothing = || self.sum == ExactSum::default() && self.squares == ExactSum::default();
        self.special >= 0 && numbers >= 0 && (numbers > 0 || nothing())
    }

    /// The variance or deviation; none of too few values.
    pub(super) fn measure(&self, measure: Measure, unit: Unit) -> Result<Option<f64>, Impossible> {
        if self.count < 1 + i64::from(measure.sample) {
            return Ok(None);
        }
        if self.special != 0 {
            return Ok(Some(f64::NAN));
        }
        let count = self.count.unsigned_abs();
        let squares = self.squares.canonical();
        if squares.is_negative() {
            return Err(Impossible);
        }
        let squares = Magnitude::of(&squares).times(&Magnitude::of_u64(count));
        let sum = Magnitude::of(&self.sum.canonical());
        let total = squares.minus(sum.times(&sum)).ok_or(Impossible)?;
        let (mantissa, mut exponent) = total.rounded();
        let others = count - u64::from(measure.sample);
        let mut value = mantissa / (count as f64 * others as f64);
        match unit {
            Unit::Float => exponent += LEAST_SQUARE_EXPONENT,
            Unit::Decimal(scale) => value /= 10f64.powi(2 * scale),
        }
        if measure.root {
            value = (value * f64::from(1 + exponent.rem_euclid(2))).sqrt();
            exponent = exponent.div_euclid(2);
        }
        Ok(Some(times_power(value, exponent)))
    }
}

fn halves(wide: u128) -> (u64, u64) {
    ((wide & u128::from(u64::MAX)) as u64, (wide >> 64) as u64)
}

/// `value` × 2^`exponent`, in steps that do not overflow where the result does not.
fn times_power(mut value: f64, mut exponent: i32) -> f64 {
    const STEP: i32 = 1_000;
    while exponent.abs() > STEP && value != 0.0 && value.is_finite() {
        value *= 2f64.powi(STEP * exponent.signum());
        exponent -= STEP * exponent.signum();
    }
    value * 2f64.powi(exponent.clamp(-STEP, STEP))
}

/// A natural number: limbs of 32 bits, the least first, times 2^(32 · base).
struct Magnitude {
    base: usize,
    limbs: Vec<u32>,
}

impl Magnitude {
    /// Without the sign.
    fn of(sum: &Canonical) -> Self {
        let mut limbs = sum.limbs.clone();
        if sum.is_negative() {
            negate(&mut limbs);
        }
        Self { base: sum.base, limbs }
    }

    fn of_u64(value: u64) -> Self {
        Self { base: 0, limbs: vec![(value & 0xffff_ffff) as u32, (value >> 32) as u32] }
    }

    fn times(&self, other: &Self) -> Self {
        let mut limbs = vec![0u32; self.limbs.len() + other.limbs.len()];
        for (at, left) in self.limbs.iter().enumerate() {
            let mut carry = 0u64;
            for (limb, right) in limbs[at..].iter_mut().zip(&other.limbs) {
                let sum = u64::from(*left) * u64::from(*right) + u64::from(*limb) + carry;
                (*limb, carry) = ((sum & 0xffff_ffff) as u32, sum >> 32);
            }
            limbs[at + other.limbs.len()] = carry as u32;
        }
        Self { base: self.base + other.base, limbs }
    }

    /// None: it would be below zero.
    fn minus(mut self, mut other: Self) -> Option<Self> {
        let base = self.base.min(other.base);
        for number in [&mut self, &mut other] {
            number.limbs.splice(0..0, std::iter::repeat_n(0, number.base - base));
            number.base = base;
        }
        let length = self.limbs.len().max(other.limbs.len());
        self.limbs.resize(length, 0);
        other.limbs.resize(length, 0);
        let mut borrow = false;
        for (left, right) in self.limbs.iter_mut().zip(&other.limbs) {
            let (less, below) = left.overflowing_sub(*right);
            let (less, further) = less.overflowing_sub(borrow.into());
            (*left, borrow) = (less, below || further);
        }
        (!borrow).then_some(self)
    }

    /// Its first 96 bits or more as a float, and the power of two that it is to be taken times.
    fn rounded(&self) -> (f64, i32) {
        let used = self.limbs.iter().rposition(|limb| *limb != 0).map_or(0, |top| top + 1);
        let low = used.saturating_sub(4);
        let bits = self.limbs[low..used].iter().rev();
        let bits = bits.fold(0u128, |bits, limb| bits << 32 | u128::from(*limb));
        (bits as f64, i32::try_from(32 * (self.base + low)).unwrap_or(i32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VARIANCE: Measure = Measure { sample: true, root: false };
    const DEVIATION: Measure = Measure { sample: false, root: true };

    fn floats(values: &[f64]) -> Spread {
        let mut spread = Spread::default();
        values.iter().for_each(|value| spread.add_float(*value, 1));
        spread
    }

    fn integers(values: &[i128]) -> Spread {
        let mut spread = Spread::default();
        values.iter().for_each(|value| spread.add_integer(*value, 1));
        spread
    }

    #[test]
    fn values_that_hardly_differ_and_values_at_the_limits() {
        for (values, variance, deviation) in [
            (vec![1e15, 1e15 + 1.0, 1e15 + 2.0], 1.0, (2f64 / 3.0).sqrt()),
            (vec![0.1; 7], 0.0, 0.0),
            (vec![1e200, -1e200], f64::INFINITY, 1e200),
            (vec![1e-200, -1e-200], 0.0, 1e-200),
            (vec![5e-324, 0.0, 0.0, 0.0], 0.0, 0.0),
            (vec![f64::MAX, -f64::MAX], f64::INFINITY, f64::MAX),
            (vec![1e150, -1e150], 2e300, 1e150),
        ] {
            let spread = floats(&values);
            let near = |found: f64, expected: f64| {
                found == expected || (found - expected).abs() <= expected.abs() * 1e-14
            };
            let found = spread.measure(VARIANCE, Unit::Float).unwrap().unwrap();
            assert!(near(found, variance), "{values:?}: {found:e}");
            let found = spread.measure(DEVIATION, Unit::Float).unwrap().unwrap();
            assert!(near(found, deviation), "{values:?}: {found:e}");
        }
        let huge = 10i128.pow(38) - 1;
        let spread = integers(&[huge, huge - 2, huge - 1]);
        assert_eq!(spread.measure(VARIANCE, Unit::Decimal(0)), Ok(Some(1.0)));
        assert_eq!(spread.measure(VARIANCE, Unit::Decimal(1)), Ok(Some(0.01)));
        let spread = integers(&[i128::MIN, i128::MAX, i128::MIN]);
        assert!(spread.measure(VARIANCE, Unit::Decimal(0)).is_ok());
    }

    #[test]
    fn few_values_have_none_and_what_is_no_number_gives_none() {
        assert_eq!(floats(&[]).measure(DEVIATION, Unit::Float), Ok(None));
        assert_eq!(floats(&[3.0]).measure(VARIANCE, Unit::Float), Ok(None));
        assert_eq!(floats(&[3.0]).measure(DEVIATION, Unit::Float), Ok(Some(0.0)));
        let mut spread = floats(&[1.0, f64::INFINITY]);
        assert!(spread.measure(VARIANCE, Unit::Float).unwrap().unwrap().is_nan());
        spread.add_float(f64::INFINITY, -1);
        assert_eq!(spread, floats(&[1.0]));
    }

    #[test]
    fn sums_that_no_values_have_are_seen() {
        let mut spread = floats(&[1.0, 2.0]);
        spread.add_float(5.0, -1);
        assert_eq!(spread.measure(DEVIATION, Unit::Float), Err(Impossible));
        spread.add_float(5.0, -1);
        assert!(!spread.is_possible());
        let mut spread = floats(&[1.0]);
        spread.add_float(1.0, -1);
        assert!(spread.is_possible());
    }

    proptest! {
        #[test]
        fn integers_agree_with_wide_arithmetic(
            values in prop::collection::vec(-1_000_000_000_000i64..1_000_000_000_000, 1..20),
            shift in any::<i32>(),
        ) {
            let values: Vec<i128> =
                values.into_iter().map(|value| i128::from(value) + i128::from(shift)).collect();
            let count = values.len() as i128;
            let sum: i128 = values.iter().sum();
            let squares: i128 = values.iter().map(|value| value * value).sum();
            let expected = (count * squares - sum * sum) as f64 / (count * count) as f64;
            let measure = Measure { sample: false, root: false };
            let found = integers(&values).measure(measure, Unit::Decimal(0)).unwrap().unwrap();
            prop_assert!((found - expected).abs() <= expected * 1e-14, "{found} {expected}");
        }

        #[test]
        fn floats_agree_with_the_integers_that_they_are(
            values in prop::collection::vec(-1i64 << 50..1 << 50, 2..20),
        ) {
            let as_floats: Vec<f64> = values.iter().map(|value| *value as f64).collect();
            let as_integers: Vec<i128> = values.iter().map(|value| (*value).into()).collect();
            prop_assert_eq!(
                floats(&as_floats).measure(VARIANCE, Unit::Float),
                integers(&as_integers).measure(VARIANCE, Unit::Decimal(0))
            );
        }
    }
}
