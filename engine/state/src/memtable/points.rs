//! Values and lists of a memtable: records in a few large chunks of memory, found by a hash table
//! of their places.
//!
//! A record is its lengths, its key and its content, one behind the other. What fits is written in
//! place; what has grown gets a new record, and the old one's memory is lost until the memtable
//! goes. So a write costs no allocation, a read touches the table and one record, and dropping a
//! memtable frees a few chunks.

use hashbrown::HashTable;

/// The first chunk's size; each further one has twice the size of the one before, up to
/// [`CHUNK_BYTES_MAX`] (a larger record has a chunk of its own).
const CHUNK_BYTES_MIN: usize = 1 << 10;
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// What the hash table takes up for each entry that it has room for: a place and its tag, at the
/// table's greatest load.
const PLACE_BYTES: usize = (size_of::<Place>() + 1) * 8 / 7;
/// Lengths of the key, of the content and of the room for it, and what the content is.
const HEAD_BYTES: usize = 13;

const PUT: u8 = 0;
const DELETE: u8 = 1;
const APPEND: u8 = 2;

/// What a memtable has of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point<'a> {
    /// A value or a whole list; nothing older matters.
    Put(&'a [u8]),
    /// Nothing, whatever was before.
    Delete,
    /// Elements behind those of an older list.
    Append(&'a [u8]),
}

/// Where a record lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The upper half of the key's hash: enough to find it, and to move it when the table grows.
    hash: u32,
    chunk: u32,
    offset: u32,
}

/// The records, and where they lie.
#[derive(Debug, Default)]
pub(crate) struct Points {
    places: HashTable<Place>,
    chunks: Vec<Vec<u8>>,
    bytes: usize,
}

/// A record's head, read.
#[derive(Clone, Copy)]
struct Head {
    key: usize,
    content: usize,
    room: usize,
    kind: u8,
}

impl Head {
    fn read(record: &[u8]) -> Self {
        let number = |at: usize| {
            let bytes = [record[at], record[at + 1], record[at + 2], record[at + 3]];
            u32::from_le_bytes(bytes) as usize
        };
        Self { key: number(0), content: number(4), room: number(8), kind: record[12] }
    }

    fn bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&short(self.key).to_le_bytes());
        bytes[4..8].copy_from_slice(&short(self.content).to_le_bytes());
        bytes[8..12].copy_from_slice(&short(self.room).to_le_bytes());
        bytes[12] = self.kind;
        bytes
    }
}

fn short(length: usize) -> u32 {
    u32::try_from(length).expect("keys and values are shorter than 4 GiB")
}

/// Spread over the table's 64 bits: buckets go by the lower ones, tags by the upper.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

fn upper(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Points {
    /// What there is of a key, by its hash.
    #[inline]
    pub(crate) fn get(&self, hash: u64, key: &[u8]) -> Option<Point<'_>> {
        self.find(upper(hash), key).map(|place| self.point(*place).1)
    }

    /// Sets a key's content, or deletes it.
    pub(crate) fn set(&mut self, hash: u64, key: &[u8], value: Option<&[u8]>) {
        match value {
            Some(value) => self.write(hash, key, PUT, value),
            None => self.write(hash, key, DELETE, &[]),
        }
    }

    /// Puts encoded elements behind what there is of a key's list.
    pub(crate) fn append(&mut self, hash: u64, key: &[u8], elements: &[u8]) {
        let Some(place) = self.find(upper(hash), key).copied() else {
            return self.write(hash, key, APPEND, elements);
        };
        let record = self.record(place);
        let head = Head::read(record);
        let length = head.content + elements.len();
        let kind = if head.kind == APPEND { APPEND } else { PUT };
        let start = place.offset as usize + HEAD_BYTES + head.key + head.content;
        if length <= head.room {
            let chunk = &mut self.chunks[place.chunk as usize];
            chunk[start..start + elements.len()].copy_from_slice(elements);
            self.set_head(place, Head { content: length, kind, ..head });
            return;
        }
        let mut whole = Vec::with_capacity(length);
        whole.extend_from_slice(&record[HEAD_BYTES + head.key..][..head.content]);
        whole.extend_from_slice(elements);
        // A list that grows will grow on.
        self.move_to_new(place, key, kind, &whole, 2 * length);
    }

    /// Memory that this takes up, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.places.capacity() * PLACE_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Where the records lie, in order of their keys. Takes n log n.
    pub(crate) fn in_order(&self) -> Vec<Place> {
        // Most keys differ within their first bytes, which are compared without a look at the record.
        let known = self.places.iter().map(|place| (first_bytes(self.point(*place).0), *place));
        let mut all: Vec<([u64; 2], Place)> = known.collect();
        all.sort_unstable_by(|one, two| {
            let rest = || self.point(one.1).0.cmp(self.point(two.1).0);
            one.0.cmp(&two.0).then_with(rest)
        });
        all.into_iter().map(|(_, place)| place).collect()
    }

    /// The record at a place: its key, and what there is of it.
    #[inline]
    pub(crate) fn point(&self, place: Place) -> (&[u8], Point<'_>) {
        let record = self.record(place);
        let head = Head::read(record);
        let (key, rest) = record[HEAD_BYTES..].split_at(head.key);
        let content = &rest[..head.content];
        let point = match head.kind {
            PUT => Point::Put(content),
            DELETE => Point::Delete,
            _ => Point::Append(content),
        };
        (key, point)
    }

    #[inline]
    fn find(&self, hash: u32, key: &[u8]) -> Option<&Place> {
        self.places.find(spread(hash), |place| place.hash == hash && self.has_key(*place, key))
    }

    #[inline]
    fn has_key(&self, place: Place, key: &[u8]) -> bool {
        let record = self.record(place);
        let length = Head::read(record).key;
        record.get(HEAD_BYTES..HEAD_BYTES + length) == Some(key)
    }

    #[inline]
    fn record(&self, place: Place) -> &[u8] {
        &self.chunks[place.chunk as usize][place.offset as usize..]
    }

    fn write(&mut self, hash: u64, key: &[u8], kind: u8, content: &[u8]) {
        let hash = upper(hash);
        let Some(place) = self.find(hash, key).copied() else {
            let place = self.add(hash, key, kind, content, content.len());
            self.places.insert_unique(spread(hash), place, |place| spread(place.hash));
            return;
        };
        let head = Head::read(self.record(place));
        if content.len() > head.room {
            return self.move_to_new(place, key, kind, content, content.len());
        }
        let start = place.offset as usize + HEAD_BYTES + head.key;
        let chunk = &mut self.chunks[place.chunk as usize];
        chunk[start..start + content.len()].copy_from_slice(content);
        self.set_head(place, Head { content: content.len(), kind, ..head });
    }

    fn set_head(&mut self, place: Place, head: Head) {
        let start = place.offset as usize;
        let chunk = &mut self.chunks[place.chunk as usize];
        chunk[start..start + HEAD_BYTES].copy_from_slice(&head.bytes());
    }

    fn move_to_new(&mut self, old: Place, key: &[u8], kind: u8, content: &[u8], room: usize) {
        let new = self.add(old.hash, key, kind, content, room);
        let is_old = |place: &Place| place.chunk == old.chunk && place.offset == old.offset;
        if let Some(place) = self.places.find_mut(spread(old.hash), is_old) {
            *place = new;
        }
    }

    /// Writes a record behind the others.
    fn add(&mut self, hash: u32, key: &[u8], kind: u8, content: &[u8], room: usize) -> Place {
        let bytes = HEAD_BYTES + key.len() + room;
        let has_room =
            self.chunks.last().is_some_and(|chunk| chunk.capacity() - chunk.len() >= bytes);
        if !has_room {
            let next = self.chunks.last().map_or(CHUNK_BYTES_MIN, |last| 2 * last.capacity());
            let next = next.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
            self.chunks.push(Vec::with_capacity(next.max(bytes)));
        }
        let chunk = self.chunks.len() - 1;
        let records = &mut self.chunks[chunk];
        let place = Place { hash, chunk: short(chunk), offset: short(records.len()) };
        let head = Head { key: key.len(), content: content.len(), room, kind };
        records.extend_from_slice(&head.bytes());
        records.extend_from_slice(key);
        records.extend_from_slice(content);
        records.resize(place.offset as usize + bytes, 0);
        self.bytes += bytes;
        place
    }
}

/// The first sixteen bytes of a key as numbers that sort as they do; a shorter key ends in zeros.
fn first_bytes(key: &[u8]) -> [u64; 2] {
    let mut bytes = [0; 16];
    let length = key.len().min(16);
    bytes[..length].copy_from_slice(&key[..length]);
    let [one, two] = [&bytes[..8], &bytes[8..]]
        .map(|half| half.try_into().map(u64::from_be_bytes).unwrap_or_default());
    [one, two]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::table::hash_of;

    fn contents(points: &Points) -> Vec<(Vec<u8>, Point<'_>)> {
        let places = points.in_order().into_iter();
        places.map(|place| points.point(place)).map(|(key, point)| (key.to_vec(), point)).collect()
    }

    #[test]
    fn what_fits_is_written_in_place() {
        let mut points = Points::default();
        points.set(1, b"a", Some(&[1; 40]));
        let bytes = points.bytes();
        points.set(1, b"a", Some(&[2; 30]));
        points.set(1, b"a", None);
        points.set(1, b"a", Some(&[3; 40]));
        assert_eq!(points.bytes(), bytes);
        assert_eq!(points.get(1, b"a"), Some(Point::Put(&[3; 40])));
        points.set(1, b"a", Some(&[4; 41]));
        assert!(points.bytes() > bytes);
        assert_eq!(contents(&points), [(b"a".to_vec(), Point::Put(&[4; 41]))]);
    }

    #[test]
    fn a_record_may_be_larger_than_a_chunk() {
        let mut points = Points::default();
        let large = vec![7; CHUNK_BYTES_MAX + 1];
        points.set(1, b"a", Some(b"small"));
        points.set(2, b"b", Some(&large));
        points.set(3, b"c", Some(b"small again"));
        assert_eq!(points.get(2, b"b"), Some(Point::Put(&large)));
        assert_eq!(points.get(3, b"c"), Some(Point::Put(b"small again")));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Set(Vec<u8>, Option<Vec<u8>>),
        Append(Vec<u8>, Vec<u8>),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        // Few keys, of which some differ only behind their sixteenth byte or in their length.
        let key = prop_oneof![
            proptest::collection::vec(0u8..2, 0..3),
            (0u8..4).prop_map(|last| [&[5; 16][..], &[last]].concat()),
        ];
        let bytes = proptest::collection::vec(any::<u8>(), 0..60);
        let op = prop_oneof![
            (key.clone(), proptest::option::of(bytes.clone())).prop_map(|(k, v)| Op::Set(k, v)),
            (key, bytes).prop_map(|(k, v)| Op::Append(k, v)),
        ];
        proptest::collection::vec(op, 0..200)
    }

    proptest! {
        #[test]
        fn records_are_what_an_ordered_map_would_hold(ops in ops(), collide: bool) {
            let hash = |key: &[u8]| if collide { 0 } else { hash_of(key) };
            let mut points = Points::default();
            let mut model: BTreeMap<Vec<u8>, (u8, Vec<u8>)> = BTreeMap::new();
            for op in ops {
                match op {
                    Op::Set(key, value) => {
                        points.set(hash(&key), &key, value.as_deref());
                        let kind = if value.is_some() { PUT } else { DELETE };
                        model.insert(key, (kind, value.unwrap_or_default()));
                    }
                    Op::Append(key, elements) => {
                        points.append(hash(&key), &key, &elements);
                        let (kind, content) = model.entry(key).or_insert((APPEND, Vec::new()));
                        content.extend(elements);
                        *kind = if *kind == APPEND { APPEND } else { PUT };
                    }
                }
            }
            let expected: Vec<_> = model
                .iter()
                .map(|(key, (kind, content))| {
                    let point = match *kind {
                        PUT => Point::Put(content),
                        DELETE => Point::Delete,
                        _ => Point::Append(content),
                    };
                    (key.clone(), point)
                })
                .collect();
            prop_assert_eq!(contents(&points), expected.clone());
            for (key, point) in expected {
                prop_assert_eq!(points.get(hash(&key), &key), Some(point));
            }
            prop_assert_eq!(points.get(hash(b"no such key"), b"no such key"), None);
        }
    }
}
