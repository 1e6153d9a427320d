//! Randomness: the only file that makes random numbers.
//!
//! Real processes draw from the operating system, simulated ones from the run's seed.

use crate::sim;

/// A random number, uniform over all of `u64`.
pub fn u64() -> u64 {
    if let Some(value) = sim::random_u64() {
        return value;
    }
    let mut bytes = [0; 8];
    // The operating system's generator failing leaves no way to make a unique name.
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    u64::from_le_bytes(bytes)
}

/// A random number below `limit` (which must be above 0).
pub fn below(limit: u64) -> u64 {
    u64() % limit
}

/// A random id of 16 hexadecimal digits, for names that nobody can ever have used before.
pub fn id() -> String {
    format!("{:016x}", u64())
}
