//! Tests of whole table files: every entry comes back, and no damaged byte is read as data.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::entry::Entry;
use crate::ids::{KeyGroup, KeyGroupRange};
use crate::key::{StateId, StateKey};

fn key(number: u16) -> Vec<u8> {
    let user = format!("user-{number:05}");
    StateKey::new(KeyGroup(number / 10), StateId(1), user.as_bytes(), b"ns").as_bytes().to_vec()
}

fn entry(number: u16) -> Entry {
    let content = Bytes::from(vec![number.to_le_bytes()[0]; usize::from(number % 30)]);
    match number % 5 {
        0 => Entry::Delete,
        1 => Entry::Append(content),
        _ => Entry::Put(content),
    }
}

fn table(count: u16, block_bytes: usize) -> (Bytes, TableMetaBytes) {
    let mut writer = TableWriter::new(block_bytes);
    for number in 0..count {
        writer.add(&key(number), &entry(number));
    }
    let table = writer.finish("t".to_owned());
    let bytes: Bytes = table.parts.concat().into();
    assert_eq!(table.meta.bytes, bytes.len() as u64);
    assert_eq!(table.meta.entries, u64::from(count));
    (bytes, TableMetaBytes { tail: table.meta.tail_bytes as usize })
}

struct TableMetaBytes {
    tail: usize,
}

/// Reads one key as the store does: tail, filter, index, block.
fn read(object: &Bytes, tail_bytes: usize, key: &[u8]) -> Result<Option<Entry>, Damage> {
    let tail = Tail::decode(&object.slice(object.len() - tail_bytes..), object.len() as u64)?;
    let Some(number) = tail.block_for(key).filter(|_| tail.may_contain(hash_of(key))) else {
        return Ok(None);
    };
    let handle = tail.block(number).unwrap();
    let start = usize::try_from(handle.offset).unwrap();
    let stored = object.slice(start..start + handle.bytes as usize);
    Arc::new(Block::decode(&stored, handle.offset)?).get(key)
}

#[test]
fn every_entry_comes_back() {
    for (count, block_bytes) in [(1, 100), (100, 1), (300, 200), (300, 1 << 20)] {
        let (object, meta) = table(count, block_bytes);
        for number in 0..count {
            let found = read(&object, meta.tail, &key(number)).unwrap();
            assert_eq!(found, Some(entry(number)));
        }
        assert_eq!(read(&object, meta.tail, &key(count)).unwrap(), None);
    }
}

#[test]
fn sizes_are_known_per_key_group() {
    let (object, meta) = table(100, 200);
    let stored = object.slice(object.len() - meta.tail..);
    let tail = Tail::decode(&stored, object.len() as u64).unwrap();
    let size = |number: u16| key(number).len() + entry(number).content().len();
    let expected: usize = (20..50).map(size).sum();
    assert_eq!(tail.size_of(KeyGroupRange { start: 2, end: 5 }), (expected as u64, 30));
    assert_eq!(tail.size_of(KeyGroupRange { start: 10, end: 99 }), (0, 0));
}

/// For every byte of a file and several ways to damage it: every key gives the right entry or an
/// error with an offset inside the file.
#[test]
fn no_damaged_byte_is_read_as_data() {
    let (object, meta) = table(40, 150);
    for position in 0..object.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = object.to_vec();
            damaged[position] ^= flip;
            let damaged = Bytes::from(damaged);
            let mut errors = 0;
            for number in 0..40 {
                match read(&damaged, meta.tail, &key(number)) {
                    Ok(found) => assert_eq!(found, Some(entry(number)), "byte {position}"),
                    Err(Damage::Damaged { offset, .. }) => {
                        assert!(offset <= position as u64, "byte {position}: offset {offset}");
                        errors += 1;
                    }
                    Err(Damage::Newer { .. }) => panic!("byte {position} makes another version"),
                }
            }
            assert!(errors > 0, "byte {position} is not checked");
        }
    }
}

#[test]
fn a_truncated_or_foreign_object_is_damage() {
    let (object, meta) = table(40, 150);
    let cut = object.slice(..object.len() - 1);
    assert!(read(&cut, meta.tail, &key(0)).is_err());
    let error = Tail::decode(&Bytes::from_static(b"short"), 5).unwrap_err();
    assert_eq!(
        error.of("objects/x").to_string(),
        "state object objects/x is damaged at byte 0: expected a tail, found 5 bytes"
    );
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let (object, meta) = table(1, 100);
    let mut newer = object.to_vec();
    let at = newer.len() - 16;
    newer[at..at + 4].copy_from_slice(&7u32.to_le_bytes());
    newer[at + 4..at + 8].copy_from_slice(&(!7u32).to_le_bytes());
    let error = read(&newer.into(), meta.tail, &key(0)).unwrap_err();
    assert_eq!(
        error.of("objects/x").to_string(),
        "state object objects/x has table format 7, this Weir reads up to 1: use a newer Weir"
    );
}

/// A file that the first release of format 1 wrote: `table(60, 200)`. It must be readable for ever.
const TABLE_V1: &[u8] = include_bytes!("../../testdata/table-v1.bin");
const TABLE_V1_TAIL_BYTES: usize = 282;

#[test]
fn stored_bytes_of_version_1_are_readable() {
    let object = Bytes::from_static(TABLE_V1);
    for number in 0..60 {
        let found = read(&object, TABLE_V1_TAIL_BYTES, &key(number)).unwrap();
        assert_eq!(found, Some(entry(number)));
    }
    let tail =
        Tail::decode(&object.slice(object.len() - TABLE_V1_TAIL_BYTES..), object.len() as u64);
    let (_, entries) = tail.unwrap().size_of(KeyGroupRange { start: 0, end: 6 });
    assert_eq!(entries, 60);
}
