//! Zipf's law by rejection-inversion (Hörmann and Derflinger 1996), with our own `ln` and `exp`.
//!
//! Constant time and memory per sample whatever the number of keys. The draws that rejection
//! consumes come from the sample's own seed, so a sample is a function of that seed.

use super::mix;

/// Draws for one sample; each is rejected with a probability below one half.
const DRAWS_MAX: u64 = 128;

/// Samples numbers `0..count`, number `i` with probability proportional to `1 / (i + 1)^exponent`.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    count: u64,
    exponent: f64,
    integral_first: f64,
    integral_last: f64,
    threshold: f64,
}

impl Zipf {
    pub(crate) fn new(count: u64, exponent_milli: u32) -> Self {
        let exponent = f64::from(exponent_milli) / 1000.0;
        let mut zipf =
            Self { count, exponent, integral_first: 0.0, integral_last: 0.0, threshold: 0.0 };
        zipf.integral_first = zipf.integral(1.5) - 1.0;
        zipf.integral_last = zipf.integral(float(count) + 0.5);
        zipf.threshold = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    pub(crate) fn sample(&self, seed: u64) -> u64 {
        for draw in 0..DRAWS_MAX {
            let uniform = float(mix(seed.wrapping_add(draw)) >> 11) / float(1 << 53);
            let area = self.integral_last + uniform * (self.integral_first - self.integral_last);
            let x = self.inverse(area);
            let rank = whole(x + 0.5).clamp(1, self.count);
            let k = float(rank);
            if k - x <= self.threshold || area >= self.integral(k + 0.5) - self.density(k) {
                return rank - 1;
            }
        }
        0
    }

    /// `x^-exponent`
    fn density(&self, x: f64) -> f64 {
        exp(-self.exponent * ln(x))
    }

    /// The integral of the density from 1 to `x`.
    fn integral(&self, x: f64) -> f64 {
        let log = ln(x);
        exp_m1_over((1.0 - self.exponent) * log) * log
    }

    fn inverse(&self, area: f64) -> f64 {
        let t = (area * (1.0 - self.exponent)).max(-1.0);
        exp(ln_1p_over(t) * area)
    }
}

#[expect(clippy::cast_precision_loss, reason = "53 bits are all that a draw needs")]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and floors what is not negative"
)]
fn whole(x: f64) -> u64 {
    x as u64
}

/// `(e^x - 1) / x`, also near 0.
fn exp_m1_over(x: f64) -> f64 {
    if x.abs() > 1e-5 { (exp(x) - 1.0) / x } else { 1.0 + x * 0.5 * (1.0 + x / 3.0) }
}

/// `ln(1 + x) / x`, also near 0.
fn ln_1p_over(x: f64) -> f64 {
    if x.abs() > 1e-5 { ln(1.0 + x) / x } else { 1.0 - x * (0.5 - x / 3.0) }
}

/// The natural logarithm of `x > 0`, by `2 artanh((m - 1) / (m + 1))` of its mantissa.
fn ln(x: f64) -> f64 {
    if x <= 0.0 {
        return -745.0;
    }
    let bits = x.to_bits();
    let exponent = i32::try_from((bits >> 52) & 0x7ff).unwrap_or(0) - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    // Into [√½, √2), where the series converges fast.
    let (mantissa, exponent) = if mantissa > std::f64::consts::SQRT_2 {
        (mantissa * 0.5, exponent + 1)
    } else {
        (mantissa, exponent)
    };
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let mut sum = 0.0;
    for odd in (1..=21).rev().step_by(2) {
        sum = sum * square + 1.0 / f64::from(odd);
    }
    2.0 * z * sum + f64::from(exponent) * std::f64::consts::LN_2
}

/// `e^x`, by its series on what is left of the next power of two.
fn exp(x: f64) -> f64 {
    let x = x.clamp(-700.0, 700.0);
    let halves = x / std::f64::consts::LN_2;
    let power = if halves < 0.0 { halves - 0.5 } else { halves + 0.5 };
    #[expect(clippy::cast_possible_truncation, reason = "clamped to 1,010; truncation rounds here")]
    let power = power as i64;
    #[expect(clippy::cast_precision_loss, reason = "clamped to 1,010")]
    let rest = x - power as f64 * std::f64::consts::LN_2;
    let mut sum = 1.0;
    for term in (1..=16).rev() {
        sum = 1.0 + sum * rest / f64::from(term);
    }
    let scale = u64::try_from(power + 1023).unwrap_or(0) << 52;
    sum * f64::from_bits(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm_and_exponential_agree_with_the_library() {
        for i in 1..20_000_u32 {
            let x = f64::from(i) * 0.37 + 1e-3;
            assert!((ln(x) - x.ln()).abs() < 1e-12, "ln {x}");
            let y = f64::from(i) / 500.0 - 20.0;
            assert!((exp(y) / y.exp() - 1.0).abs() < 1e-12, "exp {y}");
        }
    }

    #[test]
    fn frequencies_follow_the_law() {
        for milli in [300, 990, 1_000, 1_500] {
            let (count, samples) = (100_u64, 200_000_u64);
            let zipf = Zipf::new(count, milli);
            let mut seen = vec![0_u32; 100];
            for seed in 0..samples {
                seen[usize::try_from(zipf.sample(mix(seed))).unwrap()] += 1;
            }
            let exponent = f64::from(milli) / 1000.0;
            let weight = |rank: u32| f64::from(rank).powf(-exponent);
            let total: f64 = (1..=100).map(weight).sum();
            for rank in [1_u32, 2, 3, 10, 50, 100] {
                let expected = weight(rank) / total * 200_000.0;
                let found = f64::from(seen[rank as usize - 1]);
                let slack = 5.0 * expected.sqrt();
                assert!((found - expected).abs() < slack, "{milli}: {rank}: {found}, {expected}");
            }
        }
    }

    #[test]
    fn one_key_and_billions_of_keys_work() {
        assert_eq!(Zipf::new(1, 900).sample(7), 0);
        let many = Zipf::new(5_000_000_000, 900);
        assert!((0..1_000).all(|seed| many.sample(mix(seed)) < 5_000_000_000));
    }
}
