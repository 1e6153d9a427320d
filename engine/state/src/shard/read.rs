//! Reads of values, lists and maps.

use bytes::Bytes;

use super::Shard;
use crate::access::{Access, Get};
use crate::entry::{Entry, Fold};
use crate::key::{StateKey, after_prefix};

/// Some entries of a map, in the order of their map keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapChunk {
    /// Map keys and values.
    pub entries: Vec<(Bytes, Bytes)>,
    /// Where the next chunk begins (give it to [`Shard::map_chunk`]); `None` at the map's end.
    pub resume: Option<Bytes>,
}

impl Shard {
    /// The values (or encoded lists, see [`crate::list::elements`]) of some keys, in their order.
    pub fn multi_get(&self, keys: &[StateKey]) -> Get {
        let value = |key: &StateKey| {
            let mut fold = Fold::default();
            self.active.fold_point(key.as_bytes(), &mut fold);
            fold.value()
        };
        keys.iter().for_each(|key| self.expect_own(key));
        Access::Ready(keys.iter().map(value).collect())
    }

    /// The values of some entries of one map, in the order of `map_keys`.
    pub fn map_get(&self, key: &StateKey, map_keys: &[Bytes]) -> Get {
        self.expect_own(key);
        let value = |map_key: &Bytes| {
            let mut fold = Fold::default();
            self.active.fold_sorted(&key.map_entry(map_key), &mut fold);
            fold.value()
        };
        Access::Ready(map_keys.iter().map(value).collect())
    }

    /// The next entries of a map, at most `limit`, from `resume` on (`None`: from the first).
    ///
    /// Each chunk sees the map as it is when the chunk is asked for.
    pub fn map_chunk(
        &self,
        key: &StateKey,
        resume: Option<&Bytes>,
        limit: usize,
    ) -> Access<MapChunk> {
        self.expect_own(key);
        let start =
            resume.map_or_else(|| key.composite().clone(), |map_key| key.map_entry(map_key));
        let end = after_prefix(key.as_bytes());
        let found = self.active.sorted_range(&start, &end, usize::MAX);
        let prefix = key.as_bytes().len();
        let mut entries: Vec<(Bytes, Bytes)> = Vec::new();
        for (composite, entry) in found {
            let map_key = composite.slice(prefix..);
            match entry {
                Entry::Put(_) if entries.len() == limit => {
                    return Access::Ready(MapChunk { entries, resume: Some(map_key) });
                }
                Entry::Put(value) => entries.push((map_key, value)),
                Entry::Append(_) | Entry::Delete => {}
            }
        }
        Access::Ready(MapChunk { entries, resume: None })
    }
}
