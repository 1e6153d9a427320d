//! The bytes around each stored message of the journal; docs/design/0003-journal.md.
//!
//! ```text
//! magic "weir-jnl" | format u16 | kind u16 | number u64 | id u64 | incarnation length u16 |
//! incarnation | payload length u32 | payload (protobuf) | XXH3-64 of all before
//! ```
//!
//! Little endian. In every version the magic comes first and the checksum last, so that damage and
//! a newer version are told apart.

use bytes::{Buf, Bytes};
use xxhash_rust::xxh3::xxh3_64;

use super::error::JournalError;

/// The version written here, and the newest that is read.
pub(crate) const FORMAT: u16 = 1;

const MAGIC: &[u8; 8] = b"weir-jnl";
const CHECKSUM_BYTES: usize = 8;

/// What kind of object the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Kind {
    Record = 1,
    Base = 2,
    Claim = 3,
    Pin = 4,
}

/// A message with what its object says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) kind: Kind,
    /// Number of the record, base or claim; 0 for pins.
    pub(crate) number: u64,
    /// Random id of the writing.
    pub(crate) id: u64,
    /// The incarnation it belongs to.
    pub(crate) incarnation: String,
    pub(crate) payload: Bytes,
}

impl Envelope {
    pub(crate) fn encode(&self) -> Bytes {
        let incarnation_len = u16::try_from(self.incarnation.len()).expect("a short name");
        let payload_len = u32::try_from(self.payload.len()).expect("a record is below 4 GiB");
        let mut bytes = Vec::with_capacity(64 + self.payload.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&(self.kind as u16).to_le_bytes());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.id.to_le_bytes());
        bytes.extend_from_slice(&incarnation_len.to_le_bytes());
        bytes.extend_from_slice(self.incarnation.as_bytes());
        bytes.extend_from_slice(&payload_len.to_le_bytes());
        bytes.extend_from_slice(&self.payload);
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.into()
    }

    /// Reads `bytes`, which lie at `object` and should be a `kind` numbered `number`.
    pub(crate) fn decode(
        object: &str,
        bytes: &Bytes,
        kind: Kind,
        number: u64,
    ) -> Result<Self, JournalError> {
        let mut reader = Reader::checked(object, bytes)?;
        let format = reader.u16("a format version")?;
        if format > FORMAT {
            let (object, found, known) = (object.to_owned(), format.into(), FORMAT.into());
            return Err(JournalError::NewerFormat { object, found, known });
        }
        reader.expect_u16("kind", kind as u16)?;
        reader.expect_u64("number", number)?;
        let id = reader.u64("an id")?;
        let incarnation = reader.text()?;
        let payload_len = reader.u32("a length")?;
        let payload = reader.bytes(payload_len as usize, "a payload")?;
        reader.expect_end()?;
        Ok(Self { kind, number, id, incarnation, payload })
    }
}

/// Reads an envelope's fields and knows where it is.
struct Reader<'a> {
    object: &'a str,
    rest: Bytes,
    offset: u64,
}

impl<'a> Reader<'a> {
    /// A reader behind the magic, of bytes whose checksum holds.
    fn checked(object: &'a str, bytes: &Bytes) -> Result<Self, JournalError> {
        let mut reader = Self { object, rest: bytes.clone(), offset: 0 };
        let magic = reader.bytes(MAGIC.len(), "the magic")?;
        if magic[..] != MAGIC[..] {
            reader.offset = 0;
            return Err(reader.damaged("the magic weir-jnl", format!("{magic:?}")));
        }
        let Some(body_len) = reader.rest.len().checked_sub(CHECKSUM_BYTES) else {
            return Err(reader.cut("a checksum"));
        };
        let mut tail = reader.rest.split_off(body_len);
        let (expected, found) = (tail.get_u64_le(), xxh3_64(&bytes[..MAGIC.len() + body_len]));
        if expected != found {
            reader.offset = bytes.len() as u64 - CHECKSUM_BYTES as u64;
            let expected = format!("checksum {expected:016x}");
            return Err(reader.damaged(&expected, format!("{found:016x} over the bytes before")));
        }
        Ok(reader)
    }

    fn bytes(&mut self, len: usize, what: &str) -> Result<Bytes, JournalError> {
        if self.rest.len() < len {
            return Err(self.cut(what));
        }
        self.offset += len as u64;
        Ok(self.rest.split_to(len))
    }

    fn u16(&mut self, what: &str) -> Result<u16, JournalError> {
        self.bytes(2, what).map(|mut bytes| bytes.get_u16_le())
    }

    fn u32(&mut self, what: &str) -> Result<u32, JournalError> {
        self.bytes(4, what).map(|mut bytes| bytes.get_u32_le())
    }

    fn u64(&mut self, what: &str) -> Result<u64, JournalError> {
        self.bytes(8, what).map(|mut bytes| bytes.get_u64_le())
    }

    fn text(&mut self) -> Result<String, JournalError> {
        let len = self.u16("a length")?;
        let start = self.offset;
        let bytes = self.bytes(len.into(), "an incarnation")?;
        String::from_utf8(bytes.to_vec()).map_err(|error| {
            self.offset = start;
            self.damaged("an incarnation in UTF-8", error.to_string())
        })
    }

    fn expect_u16(&mut self, what: &str, expected: u16) -> Result<(), JournalError> {
        let (offset, found) = (self.offset, self.u16(what)?);
        self.expect(offset, what, expected.into(), found.into())
    }

    fn expect_u64(&mut self, what: &str, expected: u64) -> Result<(), JournalError> {
        let (offset, found) = (self.offset, self.u64(what)?);
        self.expect(offset, what, expected, found)
    }

    fn expect(
        &mut self,
        at: u64,
        what: &str,
        expected: u64,
        found: u64,
    ) -> Result<(), JournalError> {
        if expected == found {
            return Ok(());
        }
        self.offset = at;
        Err(self.damaged(&format!("{what} {expected}"), found.to_string()))
    }

    fn expect_end(&self) -> Result<(), JournalError> {
        match self.rest.len() {
            0 => Ok(()),
            more => Err(self.damaged("the checksum", format!("{more} bytes more"))),
        }
    }

    fn cut(&self, what: &str) -> JournalError {
        self.damaged(what, format!("{} bytes until the end", self.rest.len()))
    }

    fn damaged(&self, expected: &str, found: String) -> JournalError {
        let (object, offset) = (self.object.to_owned(), self.offset);
        JournalError::Damaged { object, offset, expected: expected.to_owned(), found }
    }
}

/// The error of a payload that is no message of its kind.
pub(crate) fn undecodable(object: &str, error: &prost::DecodeError) -> JournalError {
    JournalError::Damaged {
        object: object.to_owned(),
        offset: 0,
        expected: "a record as its checksum says".to_owned(),
        found: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            kind: Kind::Record,
            number: 7,
            id: 42,
            incarnation: "1-ab".into(),
            payload: Bytes::from_static(b"payload"),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Envelope, JournalError> {
        Envelope::decode("journal/7", &Bytes::copy_from_slice(bytes), Kind::Record, 7)
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(decode(&envelope().encode()).unwrap(), envelope());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found_and_placed() {
        let good = envelope().encode();
        for index in 0..good.len() {
            let mut bad = good.to_vec();
            bad[index] ^= 1 << (index % 8);
            let error = decode(&bad).unwrap_err();
            assert!(matches!(error, JournalError::Damaged { .. }), "{index}: {error}");
            assert!(decode(&good[..index]).is_err(), "cut at {index}");
        }
        let mut flipped = good.to_vec();
        flipped[40] ^= 1;
        let message = decode(&flipped).unwrap_err().to_string();
        let place = format!("journal/7 is damaged at byte {}: expected checksum", good.len() - 8);
        assert!(message.starts_with(&place), "{message}");
    }

    #[test]
    fn a_newer_version_is_named_and_not_taken_for_damage() {
        let mut newer = envelope().encode().to_vec();
        newer.truncate(newer.len() - CHECKSUM_BYTES);
        newer[8] = 9;
        newer.extend_from_slice(&xxh3_64(&newer).to_le_bytes());
        let message = decode(&newer).unwrap_err().to_string();
        assert_eq!(
            message,
            "journal/7 has format version 9, this Weir reads up to 1; use a newer Weir"
        );
    }

    #[test]
    fn an_object_at_another_number_is_damage() {
        let bytes = envelope().encode();
        let error = Envelope::decode("journal/8", &bytes, Kind::Record, 8).unwrap_err();
        assert!(error.to_string().contains("expected number 8, found 7"), "{error}");
        assert!(Envelope::decode("base/7", &bytes, Kind::Base, 7).is_err());
    }
}
