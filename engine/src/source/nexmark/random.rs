//! The random numbers of crate `nexmark` 0.2.0: `SmallRng` of crate `rand` 0.8 on a 64-bit machine
//! (xoshiro256++ by Blackman and Vigna, seeded by PCG32) and how that crate draws from ranges.

/// A generator of one event: seeded with its number.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: [u64; 4],
}

impl Random {
    pub(super) fn seeded(seed: u64) -> Self {
        let mut at = seed;
        let mut word = || u64::from(pcg32(&mut at)) | u64::from(pcg32(&mut at)) << 32;
        Self { state: std::array::from_fn(|_| word()) }
    }

    fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let next = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        next
    }

    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// From 0 to below `range`, drawn as a `usize`.
    pub(super) fn below(&mut self, range: u64) -> u64 {
        let zone = (range << range.leading_zeros()).wrapping_sub(1);
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(range);
            if wide as u64 <= zone {
                return (wide >> 64) as u64;
            }
        }
    }

    /// From 0 to below `range`, drawn as an `i32` or as the index of a slice.
    pub(super) fn below_u32(&mut self, range: u32) -> u32 {
        let zone = (range << range.leading_zeros()).wrapping_sub(1);
        self.within(range, zone)
    }

    fn within(&mut self, range: u32, zone: u32) -> u32 {
        loop {
            let wide = u64::from(self.next_u32()) * u64::from(range);
            if wide as u32 <= zone {
                return (wide >> 32) as u32;
            }
        }
    }

    /// One of the slice.
    pub(super) fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below_u32(from.len() as u32) as usize]
    }

    /// A letter from a to z, drawn as a `u8`.
    pub(super) fn letter(&mut self) -> char {
        const LETTERS: u32 = 26;
        const ZONE: u32 = u32::MAX - (u32::MAX - LETTERS + 1) % LETTERS;
        char::from(b'a' + self.within(LETTERS, ZONE) as u8)
    }

    /// Appends so many letters.
    pub(super) fn letters(&mut self, count: u64, text: &mut String) {
        text.extend((0..count).map(|_| self.letter()));
    }

    /// A price in cents.
    pub(super) fn price(&mut self) -> u64 {
        let part = (self.next_u32() >> 8) as f32 / (1_u32 << 24) as f32;
        (10.0_f32.powf(part * 6.0) * 100.0).round() as u64
    }
}

fn pcg32(state: &mut u64) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(11_634_580_027_462_260_723);
    let at = *state;
    let xorshifted = (((at >> 18) ^ at) >> 27) as u32;
    xorshifted.rotate_right((at >> 59) as u32)
}
