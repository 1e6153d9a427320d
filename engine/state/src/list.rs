//! How a list's elements are laid end to end: each as its length (varint) and its bytes.
//!
//! Appending is putting more behind; merging operands of several files is concatenation.

use bytes::Bytes;

use crate::varint;

/// Adds one element behind others.
pub(crate) fn encode_into(bytes: &mut Vec<u8>, element: &[u8]) {
    varint::put(bytes, element.len() as u64);
    bytes.extend_from_slice(element);
}

/// A whole list, as [`crate::shard::Shard::put`] takes it.
pub fn encode_all<T: AsRef<[u8]>>(elements: impl IntoIterator<Item = T>) -> Bytes {
    let mut bytes = Vec::new();
    for element in elements {
        encode_into(&mut bytes, element.as_ref());
    }
    bytes.into()
}

/// The elements of a list as [`crate::shard::Shard::multi_get`] answers it, oldest first.
///
/// Stops early when the bytes are no list (the key belongs to a state of another kind).
#[derive(Clone, Debug)]
pub struct Elements {
    rest: Bytes,
}

/// The elements of an encoded list; of none for an absent one.
pub fn elements(list: Option<Bytes>) -> Elements {
    Elements { rest: list.unwrap_or_default() }
}

impl Iterator for Elements {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let rest = std::mem::take(&mut self.rest);
        let (length, after) = varint::split(&rest)?;
        let length = usize::try_from(length).ok()?;
        let (element, after) = after.split_at_checked(length)?;
        let element = rest.slice_ref(element);
        self.rest = rest.slice_ref(after);
        Some(element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_back_in_order() {
        let mut list = Vec::new();
        for element in [&b"one"[..], b"", &[7; 300]] {
            encode_into(&mut list, element);
        }
        let back: Vec<Bytes> = elements(Some(list.into())).collect();
        assert_eq!(back, [&b"one"[..], b"", &[7; 300]]);
        assert_eq!(elements(None).count(), 0);
    }
}
