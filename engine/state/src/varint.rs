//! Variable-length unsigned numbers: LEB128, seven bits a byte, least significant first.

/// Appends `value`.
pub(crate) fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    bytes.push(low_bits(value));
}

/// Bytes that `value` takes.
pub(crate) fn width(value: u64) -> usize {
    let bits = u64::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Splits the number at the front from the rest; `None` when it is cut short or too long.
#[inline]
pub(crate) fn split(bytes: &[u8]) -> Option<(u64, &[u8])> {
    match bytes {
        [byte, rest @ ..] if *byte < 0x80 => Some((u64::from(*byte), rest)),
        _ => split_long(bytes),
    }
}

fn split_long(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if index == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

fn low_bits(value: u64) -> u8 {
    (value & 0x7f) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_with_what_follows() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            assert_eq!(bytes.len(), width(value));
            bytes.push(9);
            assert_eq!(split(&bytes), Some((value, &[9][..])));
        }
    }

    #[test]
    fn cut_or_overlong_numbers_are_refused() {
        assert_eq!(split(&[]), None);
        assert_eq!(split(&[0x80]), None);
        assert_eq!(split(&[0xff; 11]), None);
    }
}
