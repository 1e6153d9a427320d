//! The exact sum of floats: the same whatever the order, rounded once when it is read.
//!
//! A fixed-point number wide enough for every float, kept as signed limbs of 32 bits in 64-bit
//! words, as many as the values need (R. M. Neal, "Fast exact summation using small and large
//! superaccumulators", 2015). An addition is exact, so additions commute and partial sums merge;
//! the spare bits of a word put off carries for 2^30 additions.

/// Limb 0, bit 0 has the weight of the least positive float, 2^-1074.
const LEAST_EXPONENT: i32 = -1074;
/// Additions after which carries are moved up. A word then is below 2^63.
const ADDS_MAX: u32 = 1 << 30;
/// Limbs that any sum of fewer than 2^64 floats needs: 2098 bits, 64 for the count, and the sign.
pub(super) const LIMBS_MAX: usize = 70;
/// Limbs that any sum of fewer than 2^64 squares of floats needs.
pub(super) const SQUARE_LIMBS_MAX: usize = 140;

pub(super) const NAN: u8 = 1;
pub(super) const POSITIVE_INFINITY: u8 = 2;
pub(super) const NEGATIVE_INFINITY: u8 = 4;
/// All values that are no number.
pub(super) const SPECIAL_MASK: u8 = NAN | POSITIVE_INFINITY | NEGATIVE_INFINITY;

/// An exact sum.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExactSum {
    /// Which values that are no number were added.
    special: u8,
    /// Additions since the last carry.
    adds: u32,
    /// Index of `limbs[0]`.
    base: usize,
    limbs: Vec<i64>,
}

/// The one way to write a sum down: equal sums are equal in all parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Canonical {
    /// Which values that are no number were added.
    pub(super) special: u8,
    /// Index of `limbs[0]`; 0 without limbs.
    pub(super) base: usize,
    /// Two's complement, least limb first, without needless limbs at either end.
    pub(super) limbs: Vec<u32>,
}

/// A finite float as ± mantissa · 2^(position − 1074).
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub(super) mantissa: u64,
    pub(super) position: usize,
    pub(super) negative: bool,
}

impl Parts {
    /// Of a value; none of one that is no number.
    pub(super) fn of(value: f64) -> Option<Self> {
        let bits = value.to_bits();
        let field = usize::try_from((bits >> 52) & 0x7ff).unwrap_or(0);
        let fraction = bits & ((1 << 52) - 1);
        if field == 0x7ff {
            return None;
        }
        let mantissa = if field == 0 { fraction } else { fraction | (1 << 52) };
        let position = field.max(1) - 1;
        Some(Self { mantissa, position, negative: value.is_sign_negative() })
    }
}

impl Canonical {
    /// Whether the sum is below zero.
    pub(super) fn is_negative(&self) -> bool {
        self.limbs.last().is_some_and(|top| top >> 31 == 1)
    }
}

impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }
}

impl ExactSum {
    /// Adds one value.
    pub(crate) fn add(&mut self, value: f64) {
        match Parts::of(value) {
            Some(Parts { mantissa, position, negative }) => {
                self.add_part(mantissa, position, negative);
            }
            None if value.is_nan() => self.special |= NAN,
            None if value > 0.0 => self.special |= POSITIVE_INFINITY,
            None => self.special |= NEGATIVE_INFINITY,
        }
    }

    /// Adds ± `magnitude` · 2^`position`, in units of the least bit.
    pub(super) fn add_part(&mut self, magnitude: u64, position: usize, negative: bool) {
        if magnitude == 0 {
            return;
        }
        let wide = u128::from(magnitude) << (position % 32);
        let first = self.reserve(position / 32);
        for (limb, word) in self.limbs[first..first + 3].iter_mut().enumerate() {
            let part = ((wide >> (32 * limb)) & 0xffff_ffff) as i64;
            *word += if negative { -part } else { part };
        }
        self.count_add();
    }

    /// Adds everything that `other` has seen.
    pub(crate) fn merge(&mut self, other: &Self) {
        let other = other.canonical();
        self.special |= other.special;
        self.add_canonical(&other);
    }

    /// The sum written as `canonical`.
    pub(crate) fn of_canonical(canonical: &Canonical) -> Self {
        let mut sum = Self { special: canonical.special, ..Self::default() };
        sum.add_canonical(canonical);
        sum
    }

    fn add_canonical(&mut self, other: &Canonical) {
        let Some((top, rest)) = other.limbs.split_last() else {
            return;
        };
        let first = self.reserve_many(other.base, other.limbs.len());
        for (word, limb) in self.limbs[first..].iter_mut().zip(rest) {
            *word += i64::from(*limb);
        }
        self.limbs[first + rest.len()] += i64::from(top.cast_signed());
        self.count_add();
    }

    fn count_add(&mut self) {
        self.adds += 1;
        if self.adds >= ADDS_MAX {
            let canonical = self.canonical();
            *self = Self { special: canonical.special, ..Self::default() };
            self.add_canonical(&canonical);
        }
    }

    /// Makes room for the three limbs from index `limb` on; where they lie.
    fn reserve(&mut self, limb: usize) -> usize {
        self.reserve_many(limb, 3)
    }

    fn reserve_many(&mut self, limb: usize, count: usize) -> usize {
        if self.limbs.is_empty() {
            self.base = limb;
        }
        if limb < self.base {
            let missing = self.base - limb;
            self.limbs.splice(0..0, std::iter::repeat_n(0, missing));
            self.base = limb;
        }
        let first = limb - self.base;
        if self.limbs.len() < first + count {
            self.limbs.resize(first + count, 0);
        }
        first
    }

    /// The sum without spare bits and needless limbs.
    pub(crate) fn canonical(&self) -> Canonical {
        let mut limbs = Vec::with_capacity(self.limbs.len() + 2);
        let mut carry = 0i64;
        for word in &self.limbs {
            // Words stay below 2^63 − 2^32, so a carry always fits.
            let word = word + carry;
            limbs.push((word & 0xffff_ffff) as u32);
            carry = word >> 32;
        }
        limbs.push((carry & 0xffff_ffff) as u32);
        limbs.push(((carry >> 32) & 0xffff_ffff) as u32);
        while let [.., below, top] = limbs.as_slice() {
            let sign = if below >> 31 == 1 { u32::MAX } else { 0 };
            if *top != sign {
                break;
            }
            limbs.pop();
        }
        let zeros = limbs.iter().take_while(|limb| **limb == 0).count();
        limbs.drain(..zeros);
        let base = if limbs.is_empty() { 0 } else { self.base + zeros };
        Canonical { special: self.special, base, limbs }
    }

    /// Bytes beside the value itself.
    pub(super) fn heap_bytes(&self) -> usize {
        self.limbs.capacity() * size_of::<i64>()
    }

    /// The float nearest to the sum; infinite beyond the greatest.
    pub(crate) fn value(&self) -> f64 {
        self.scaled(0)
    }

    /// The float nearest to the sum divided by `count`, within two roundings.
    pub(crate) fn mean(&self, count: u64) -> f64 {
        // A sum may be too large for a float where the mean is not.
        const DOWN: i32 = 64;
        let count = count as f64;
        let sum = self.value();
        if sum.is_finite() || self.special != 0 {
            return sum / count;
        }
        self.scaled(DOWN) / count * 2f64.powi(DOWN)
    }

    /// The same sum beside values that are no number.
    pub(super) fn with_special(&self, special: u8) -> Self {
        Self { special, ..self.clone() }
    }

    /// The float nearest to the sum × 2^-down. With `down` above 0 only for large sums.
    fn scaled(&self, down: i32) -> f64 {
        match self.special {
            0 => {}
            POSITIVE_INFINITY => return f64::INFINITY,
            NEGATIVE_INFINITY => return f64::NEG_INFINITY,
            _ => return f64::NAN,
        }
        let canonical = self.canonical();
        let negative = canonical.is_negative();
        let Canonical { base, mut limbs, .. } = canonical;
        if negative {
            negate(&mut limbs);
        }
        let magnitude = nearest(&limbs, base, down);
        if negative { -magnitude } else { magnitude }
    }
}

/// Two's complement of the other sign. The limbs then are a magnitude without a sign.
pub(super) fn negate(limbs: &mut [u32]) {
    let mut carry = true;
    for limb in limbs {
        (*limb, carry) = (!*limb).overflowing_add(carry.into());
    }
}

/// Rounds a magnitude to the nearest float, halves to even.
fn nearest(limbs: &[u32], base: usize, down: i32) -> f64 {
    let bit = |at: usize| limbs.get(at / 32).is_some_and(|limb| limb >> (at % 32) & 1 == 1);
    let Some(top) = (0..limbs.len() * 32).rev().find(|at| bit(*at)) else {
        return 0.0;
    };
    // Positions above count from limb 0 of `limbs`; `offset` is where that lies.
    let offset = base * 32;
    let low = (top + offset).saturating_sub(52).saturating_sub(offset);
    let mut mantissa = (low..=top).rev().fold(0u64, |bits, at| bits << 1 | u64::from(bit(at)));
    let exact = (0..low).all(|at| !bit(at));
    let half = low > 0 && bit(low - 1);
    let more_than_half = half && (0..low - 1).any(bit);
    if !exact && half && (more_than_half || mantissa & 1 == 1) {
        mantissa += 1;
    }
    let exponent = i32::try_from(low + offset).unwrap_or(i32::MAX) + LEAST_EXPONENT - down;
    scale(mantissa, exponent)
}

/// `mantissa` × 2^`exponent`, exact but for overflow: the mantissa has at most 54 bits, and
/// nothing below the least float.
fn scale(mantissa: u64, exponent: i32) -> f64 {
    let value = mantissa as f64;
    if exponent < -1000 {
        return value * 2f64.powi(exponent + 200) * 2f64.powi(-200);
    }
    if exponent > 900 {
        return value * 2f64.powi(900) * 2f64.powi(exponent - 900);
    }
    value * 2f64.powi(exponent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(values: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        values.iter().for_each(|value| sum.add(*value));
        sum
    }

    #[test]
    fn sums_are_exact() {
        for (values, expected) in [
            (vec![], 0.0),
            (vec![-0.0], 0.0),
            (vec![0.1; 10], 1.0),
            (vec![1e16, 1.0, -1e16], 1.0),
            (vec![1e308, 1e308, -1e308, -1e308, 5e-324], 5e-324),
            (vec![f64::MAX, f64::MAX], f64::INFINITY),
            (vec![-f64::MAX, -f64::MAX, f64::MAX], -f64::MAX),
            (vec![5e-324; 3], 1.5e-323),
            (vec![f64::MIN_POSITIVE, -5e-324], 2.225_073_858_507_201e-308),
            (vec![1.0, f64::EPSILON / 2.0], 1.0),
            (vec![1.0, f64::EPSILON / 2.0, 5e-324], 1.0 + f64::EPSILON),
            (vec![1.0 + f64::EPSILON, f64::EPSILON / 2.0], 1.0 + 2.0 * f64::EPSILON),
            (vec![-1.5, 0.25], -1.25),
            (vec![f64::INFINITY, 1.0], f64::INFINITY),
            (vec![f64::NEG_INFINITY, f64::MAX], f64::NEG_INFINITY),
        ] {
            let found = sum(&values).value();
            assert_eq!(found.to_bits(), expected.to_bits(), "{values:?} gave {found:e}");
        }
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).value().is_nan());
        assert!(sum(&[f64::NAN, 1.0]).value().is_nan());
    }

    #[test]
    fn a_mean_is_finite_where_its_sum_is_not() {
        assert_eq!(sum(&[f64::MAX, f64::MAX]).mean(2).to_bits(), f64::MAX.to_bits());
        assert_eq!(sum(&[-1e308; 7]).mean(7).to_bits(), (-1e308f64).to_bits());
        assert_eq!(sum(&[1.0, 2.0]).mean(2).to_bits(), 1.5f64.to_bits());
        assert_eq!(sum(&[5e-324, 5e-324]).mean(2).to_bits(), 5e-324f64.to_bits());
    }

    #[test]
    fn carries_are_moved_up_in_time() {
        let mut many = sum(&[1.0]);
        many.adds = ADDS_MAX - 1;
        many.limbs[0] = (1 << 62) - 1;
        let before = many.canonical();
        many.add(5e-324);
        assert_eq!(many.adds, 1);
        let mut expected = ExactSum::of_canonical(&before);
        expected.add(5e-324);
        assert_eq!(many, expected);
    }

    fn float() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<f64>().prop_filter("finite", |value| value.is_finite()),
            (-1000i32..1000).prop_map(|value| f64::from(value) / 10.0),
            any::<i64>().prop_map(|value| value as f64),
        ]
    }

    proptest! {
        #[test]
        fn order_and_splits_do_not_matter(
            values in proptest::collection::vec(float(), 0..40),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = sum(&values);
            let mut reversed = values.clone();
            reversed.reverse();
            prop_assert_eq!(whole.canonical(), sum(&reversed).canonical());
            let (left, right) = values.split_at(cut.index(values.len() + 1));
            let mut merged = sum(left);
            merged.merge(&sum(right));
            prop_assert_eq!(whole.canonical(), merged.canonical());
            prop_assert_eq!(&whole, &ExactSum::of_canonical(&whole.canonical()));
            prop_assert!(whole.canonical().limbs.len() <= LIMBS_MAX);
        }

        #[test]
        fn a_sum_of_one_or_two_is_the_processors(a in float(), b in float()) {
            prop_assert_eq!(sum(&[a]).value(), a);
            prop_assert_eq!(sum(&[a, b]).value(), a + b);
        }

        #[test]
        fn what_is_added_can_be_taken_away(values in proptest::collection::vec(float(), 0..40)) {
            let mut all = sum(&values);
            values.iter().rev().for_each(|value| all.add(-value));
            prop_assert_eq!(all.canonical(), Canonical::default());
        }
    }
}
