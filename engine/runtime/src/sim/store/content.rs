//! What a simulated store holds, and what each operation does to it. Plain, without time or faults.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{
    Attributes, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, ObjectMeta,
    PutMode, PutResult, Result,
};

/// The name of the store in its errors.
pub(super) const STORE: &str = "SimStore";

#[derive(Clone, Debug)]
struct Entry {
    bytes: Bytes,
    wall_ms: u64,
    tag: u64,
}

#[derive(Debug, Default)]
pub(super) struct Content {
    entries: BTreeMap<Path, Entry>,
    tags: u64,
    used_bytes: u64,
    pub(super) capacity_bytes: Option<u64>,
    ignores_create: bool,
}

impl Content {
    pub(super) fn new(capacity_bytes: Option<u64>, ignores_create: bool) -> Self {
        Self { capacity_bytes, ignores_create, ..Self::default() }
    }

    pub(super) fn put(
        &mut self,
        path: &Path,
        bytes: Bytes,
        mode: &PutMode,
        wall_ms: u64,
    ) -> Result<PutResult> {
        let old = self.entries.get(path);
        match mode {
            PutMode::Create if old.is_some() && !self.ignores_create => {
                return Err(already_exists(path));
            }
            PutMode::Update(version) => {
                let tag = old.map(|entry| quoted(entry.tag));
                if tag.is_none() || tag != version.e_tag {
                    let source = "the object is another one".into();
                    return Err(Error::Precondition { path: path.to_string(), source });
                }
            }
            PutMode::Create | PutMode::Overwrite => {}
        }
        let old_bytes = old.map_or(0, |entry| entry.bytes.len() as u64);
        let used_bytes = self.used_bytes - old_bytes + bytes.len() as u64;
        if self.capacity_bytes.is_some_and(|capacity| used_bytes > capacity) {
            return Err(disk_full());
        }
        self.used_bytes = used_bytes;
        self.tags += 1;
        let tag = self.tags;
        self.entries.insert(path.clone(), Entry { bytes, wall_ms, tag });
        let e_tag = Some(quoted(tag));
        Ok(PutResult { e_tag, version: None, extensions: Default::default() })
    }

    pub(super) fn bytes(&self, path: &Path) -> Result<Bytes> {
        self.entries.get(path).map(|entry| entry.bytes.clone()).ok_or_else(|| not_found(path))
    }

    pub(super) fn get(&self, path: &Path, options: &GetOptions) -> Result<GetResult> {
        let entry = self.entries.get(path).ok_or_else(|| not_found(path))?;
        let meta = meta(path, entry);
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => checked_range(path, range, meta.size)?,
            None => 0..meta.size,
        };
        let bytes = if options.head { Bytes::new() } else { cut(&entry.bytes, &range) };
        let stream = futures::stream::once(std::future::ready(Ok(bytes)));
        let payload = GetResultPayload::Stream(Box::pin(stream));
        let (attributes, extensions) = (Attributes::default(), Default::default());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    pub(super) fn ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let bytes = self.bytes(path)?;
        let size = bytes.len() as u64;
        let one = |range: &Range<u64>| {
            let range = checked_range(path, &GetRange::Bounded(range.clone()), size)?;
            Ok(cut(&bytes, &range))
        };
        ranges.iter().map(one).collect()
    }

    pub(super) fn delete(&mut self, path: &Path) {
        if let Some(entry) = self.entries.remove(path) {
            self.used_bytes -= entry.bytes.len() as u64;
        }
    }

    pub(super) fn copy(
        &mut self,
        from: &Path,
        to: &Path,
        create: bool,
        wall_ms: u64,
    ) -> Result<()> {
        let bytes = self.bytes(from)?;
        let mode = if create { PutMode::Create } else { PutMode::Overwrite };
        self.put(to, bytes, &mode, wall_ms).map(drop)
    }

    /// All objects below `prefix` whose path is greater than `offset`, in path order.
    pub(super) fn list(&self, prefix: &Path, offset: Option<&Path>) -> Vec<ObjectMeta> {
        let below = |path: &Path| path.prefix_match(prefix).is_some_and(|mut p| p.next().is_some());
        let listed = self.entries.iter().filter(|(path, _)| below(path));
        let listed = listed.filter(|(path, _)| offset.is_none_or(|offset| *path > offset));
        listed.map(|(path, entry)| meta(path, entry)).collect()
    }

    pub(super) fn list_with_delimiter(&self, prefix: &Path) -> ListResult {
        let mut folders = BTreeSet::new();
        let mut objects = Vec::new();
        for (path, entry) in &self.entries {
            let Some(mut parts) = path.prefix_match(prefix) else { continue };
            let Some(first) = parts.next() else { continue };
            if parts.next().is_some() {
                folders.insert(prefix.clone().join(first));
            } else {
                objects.push(meta(path, entry));
            }
        }
        let common_prefixes = folders.into_iter().collect();
        ListResult { common_prefixes, objects, extensions: Default::default() }
    }

    pub(super) fn names(&self) -> Vec<(String, u64)> {
        let name = |(path, entry): (&Path, &Entry)| (path.to_string(), entry.bytes.len() as u64);
        self.entries.iter().map(name).collect()
    }
}

pub(super) fn already_exists(path: &Path) -> Error {
    Error::AlreadyExists { path: path.to_string(), source: "it is there".into() }
}

fn not_found(path: &Path) -> Error {
    Error::NotFound { path: path.to_string(), source: "no such object".into() }
}

/// The error of a write that finds no space left.
pub(super) fn disk_full() -> Error {
    let source = Box::new(io::Error::from(io::ErrorKind::StorageFull));
    Error::Generic { store: STORE, source }
}

fn quoted(tag: u64) -> String {
    format!("\"{tag}\"")
}

fn meta(path: &Path, entry: &Entry) -> ObjectMeta {
    ObjectMeta {
        location: path.clone(),
        last_modified: (UNIX_EPOCH + Duration::from_millis(entry.wall_ms)).into(),
        size: entry.bytes.len() as u64,
        e_tag: Some(quoted(entry.tag)),
        version: None,
    }
}

/// The part of an object of `size` bytes that `range` names, as a real store gives it: an end past
/// the object's is cut off, a start past it is refused.
fn checked_range(path: &Path, range: &GetRange, size: u64) -> Result<Range<u64>> {
    let wanted = match range {
        GetRange::Bounded(range) => range.start..range.end.min(size),
        GetRange::Offset(offset) => *offset..size,
        GetRange::Suffix(length) => size.saturating_sub(*length)..size,
    };
    if wanted.start < wanted.end {
        return Ok(wanted);
    }
    let source = format!("{path}: no byte of range {range} lies within {size} bytes").into();
    Err(Error::Generic { store: STORE, source })
}

fn cut(bytes: &Bytes, range: &Range<u64>) -> Bytes {
    let at = |offset: u64| usize::try_from(offset).expect("an object in memory has such offsets");
    bytes.slice(at(range.start)..at(range.end))
}
