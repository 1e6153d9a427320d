//! Loading parts of table files: all that a read needs at once, neighbours in one request.
//!
//! A part that is being read for somebody is not read a second time; both get it. A read once
//! begun goes on in a task of its own, whether or not anybody still waits, and fills the cache.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use futures::FutureExt;
use futures::future::Shared;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use weir_runtime::task;

use super::StateStore;
use super::requests::{permits, permits_for};
use crate::cache::{Cached, PartKey, TAIL_OFFSET};
use crate::error::StateError;
use crate::table::{Block, BlockHandle, Tail};
use crate::version::TableHandle;

/// Blocks with at most this many bytes between them are read in one request.
const JOIN_GAP_BYTES: u64 = 16 << 10;
/// A joined request is not made larger than this.
const JOIN_MAX_BYTES: u64 = 1 << 20;

/// Which part of a table file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Block(BlockHandle),
    Tail,
}

/// A part that is not in memory.
#[derive(Clone, Debug)]
pub(crate) struct Need {
    pub(crate) table: Arc<TableHandle>,
    pub(crate) part: Part,
}

impl Need {
    pub(crate) fn key(&self) -> PartKey {
        let offset = match self.part {
            Part::Block(handle) => handle.offset,
            Part::Tail => TAIL_OFFSET,
        };
        PartKey { table: self.table.id, offset }
    }

    /// Bytes as stored: about what it takes up in memory.
    fn bytes(&self) -> u64 {
        let (start, end) = self.place();
        end - start
    }

    /// Where the part lies in its object: (first byte, end).
    fn place(&self) -> (u64, u64) {
        match self.part {
            Part::Block(handle) => (handle.offset, handle.offset + u64::from(handle.bytes)),
            Part::Tail => {
                let bytes = self.table.bytes;
                (bytes - u64::from(self.table.tail_bytes), bytes)
            }
        }
    }
}

/// Whether what is loaded is worth keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    InCache,
    /// Read once, by a compaction.
    No,
}

type Answer = Result<Cached, StateError>;
/// A part on its way, for everybody who waits for it.
pub(super) type OnItsWay = Shared<oneshot::Receiver<Answer>>;

/// A part that this load reads itself.
struct Lead {
    need: Need,
    answer: oneshot::Sender<Answer>,
}

impl StateStore {
    /// How much one point read loads before it uses it.
    fn read_bytes_max(&self) -> u64 {
        self.settings.bytes_in_flight_max as u64 / 4
    }

    /// Waits until so much may be in memory for a read. Who holds some must not ask for more.
    async fn room_for(&self, bytes: u64) -> OwnedSemaphorePermit {
        let permits = permits_for(bytes, permits(&self.settings));
        let room = Arc::clone(&self.reading).acquire_many_owned(permits).await;
        room.expect("the semaphore is never closed")
    }

    /// The part, if it is in memory.
    pub(crate) fn cached(&self, key: PartKey) -> Option<Cached> {
        self.cache.get(key)
    }

    /// Loads all these parts, with all requests in flight at once.
    pub(crate) async fn load(
        self: Arc<Self>,
        needs: Vec<Need>,
        keep: Keep,
    ) -> Result<Vec<(PartKey, Cached)>, StateError> {
        let mut loaded = Vec::with_capacity(needs.len());
        let mut waiting: Vec<(PartKey, OnItsWay)> = Vec::with_capacity(needs.len());
        let mut leads = Vec::new();
        {
            let mut on_their_way = self.on_their_way.lock().unwrap_or_else(PoisonError::into_inner);
            for need in needs {
                let key = need.key();
                if let Some(answer) = on_their_way.get(&key) {
                    waiting.push((key, answer.clone()));
                } else if let Some(part) = self.cache.get_again(key) {
                    // It came since the read looked.
                    loaded.push((key, part));
                } else {
                    let (answer, receiver) = oneshot::channel();
                    let receiver = receiver.shared();
                    on_their_way.insert(key, receiver.clone());
                    leads.push(Lead { need, answer });
                    waiting.push((key, receiver));
                }
            }
        }
        for request in joined(leads) {
            task::spawn(Arc::clone(&self).read_joined(request, keep)).detach();
        }
        for (key, answer) in waiting {
            let part = answer.await.unwrap_or_else(|_| {
                let reason = "its task was aborted".to_owned();
                Err(StateError::TaskEnded { step: String::new(), what: "a read", reason })
            })?;
            loaded.push((key, part));
        }
        Ok(loaded)
    }

    /// Reads parts of one object with one request and answers everybody.
    async fn read_joined(self: Arc<Self>, leads: Vec<Lead>, keep: Keep) {
        let ends = leads.iter().map(|lead| lead.need.place());
        let (start, end) =
            ends.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1))).unwrap_or_default();
        let Some(table) = leads.first().map(|lead| Arc::clone(&lead.need.table)) else { return };
        let read = self.requests.read(&table, start..end).await;
        for Lead { need, answer } in leads {
            let part = read.clone().and_then(|bytes| {
                let (from, to) = need.place();
                // Both lie within the range that was read, whose length was checked.
                let at = |place: u64| usize::try_from(place - start).unwrap_or(usize::MAX);
                self.decode(&need, &bytes.slice(at(from)..at(to)))
            });
            if let (Ok(part), Keep::InCache) = (&part, keep) {
                self.cache.insert(need.key(), part.clone());
            }
            let mut on_their_way = self.on_their_way.lock().unwrap_or_else(PoisonError::into_inner);
            on_their_way.remove(&need.key());
            drop(on_their_way);
            // Nobody may wait any more: then only the cache profits.
            drop(answer.send(part));
        }
    }

    fn decode(&self, need: &Need, stored: &bytes::Bytes) -> Answer {
        let decoded = match need.part {
            Part::Block(handle) => {
                Block::decode(stored, handle.offset).map(|block| Cached::Block(Arc::new(block)))
            }
            Part::Tail => {
                Tail::decode(stored, need.table.bytes).map(|tail| Cached::Tail(Arc::new(tail)))
            }
        };
        decoded.map_err(|damage| damage.of(&self.requests.object_name(&need.table)))
    }
}

/// Groups parts of one object that are near each other.
fn joined(mut leads: Vec<Lead>) -> Vec<Vec<Lead>> {
    leads.sort_by_key(|lead| (lead.need.table.id, lead.need.place()));
    let mut requests: Vec<Vec<Lead>> = Vec::new();
    for lead in leads {
        match requests.last_mut() {
            Some(request) if joins(request, &lead) => request.push(lead),
            _ => requests.push(vec![lead]),
        }
    }
    requests
}

fn joins(request: &[Lead], next: &Lead) -> bool {
    let (Some(first), Some(last)) = (request.first(), request.last()) else { return false };
    let (start, end) = next.need.place();
    first.need.table.id == next.need.table.id
        && start.saturating_sub(last.need.place().1) <= JOIN_GAP_BYTES
        && end - first.need.place().0 <= JOIN_MAX_BYTES
}

/// The parts that one read works with: what it loaded itself, and the cache behind.
///
/// A read steps until it needs parts that are not in memory ([`Parts::want`]), loads them all, and
/// steps on.
#[derive(Debug)]
pub(crate) struct Parts {
    store: Arc<StateStore>,
    keep: Keep,
    loaded: BTreeMap<PartKey, Cached>,
    wanted: BTreeMap<PartKey, Need>,
    /// Parts that may be wanted later: loaded where what is wanted leaves room.
    ahead: BTreeMap<PartKey, Need>,
    looks_ahead: bool,
    /// Of point reads: each part is used in the step after it was loaded, and not held any longer.
    is_bounded: bool,
    /// Room for what is loaded, where it counts against the limit of all reads.
    _room: Option<OwnedSemaphorePermit>,
}

impl Parts {
    pub(crate) fn new(store: &Arc<StateStore>, keep: Keep) -> Self {
        let store = Arc::clone(store);
        let (loaded, wanted, ahead) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (looks_ahead, is_bounded) = (false, false);
        Self { store, keep, loaded, wanted, ahead, looks_ahead, is_bounded, _room: None }
    }

    /// For point reads of many keys: each step uses all that was loaded before it. What waits in
    /// memory for its step is bounded, for all such reads together.
    pub(crate) fn for_points(store: &Arc<StateStore>) -> Self {
        Self { is_bounded: true, ..Self::new(store, Keep::InCache) }
    }

    /// Whether loading takes room that others may wait for.
    pub(crate) fn holds_room(&self) -> bool {
        self.is_bounded
    }

    /// What is asked for from now on is not needed for the next step: it must never take the place
    /// of what is, or a read that loads it again and again does not go on.
    pub(crate) fn look_ahead(&mut self, ahead: bool) {
        self.looks_ahead = ahead;
    }

    /// The tail of a table; if it is not in memory, it will be loaded.
    pub(crate) fn tail(&mut self, table: &Arc<TableHandle>) -> Option<Arc<Tail>> {
        let need = Need { table: Arc::clone(table), part: Part::Tail };
        match self.part(need, false)? {
            Cached::Tail(tail) => Some(tail),
            Cached::Block(_) => None,
        }
    }

    /// A data block; if it is not in memory, it will be loaded.
    pub(crate) fn block(
        &mut self,
        table: &Arc<TableHandle>,
        handle: BlockHandle,
    ) -> Option<Arc<Block>> {
        self.any_block(table, handle, false)
    }

    /// The same for a caller that asks for each block once: it is not held any longer.
    pub(crate) fn take_block(
        &mut self,
        table: &Arc<TableHandle>,
        handle: BlockHandle,
    ) -> Option<Arc<Block>> {
        self.any_block(table, handle, true)
    }

    /// Has a block loaded with the others, if it is not in memory.
    pub(crate) fn want_block(&mut self, table: &Arc<TableHandle>, handle: BlockHandle) {
        let need = Need { table: Arc::clone(table), part: Part::Block(handle) };
        let key = need.key();
        if !self.loaded.contains_key(&key) && self.store.cached(key).is_none() {
            self.wanted.insert(key, need);
        }
    }

    /// Loads what was wanted (of point reads as much as there is room for), with all requests in
    /// flight at once.
    pub(crate) async fn load(&mut self) -> Result<(), StateError> {
        let wanted = std::mem::take(&mut self.wanted);
        let mut ahead = std::mem::take(&mut self.ahead);
        ahead.retain(|key, _| !wanted.contains_key(key));
        let mut wanted = wanted.into_values().chain(ahead.into_values());
        let mut needs = Vec::new();
        if self.is_bounded {
            self.loaded.clear();
            self._room = None;
            let most = self.store.read_bytes_max();
            let mut bytes = 0;
            while let Some(need) = wanted.next().filter(|_| bytes < most) {
                bytes += need.bytes();
                needs.push(need);
            }
            self._room = Some(self.store.room_for(bytes).await);
        } else {
            needs.extend(wanted);
        }
        let loaded = Arc::clone(&self.store).load(needs, self.keep).await?;
        self.loaded.extend(loaded);
        Ok(())
    }

    /// The error that says what is wrong with a table's object.
    pub(crate) fn damaged(&self, table: &TableHandle, damage: crate::table::Damage) -> StateError {
        damage.of(&self.store.requests.object_name(table))
    }

    fn any_block(
        &mut self,
        table: &Arc<TableHandle>,
        handle: BlockHandle,
        once: bool,
    ) -> Option<Arc<Block>> {
        let need = Need { table: Arc::clone(table), part: Part::Block(handle) };
        match self.part(need, once)? {
            Cached::Block(block) => Some(block),
            Cached::Tail(_) => None,
        }
    }

    fn part(&mut self, need: Need, once: bool) -> Option<Cached> {
        let key = need.key();
        let loaded = if once { self.loaded.remove(&key) } else { self.loaded.get(&key).cloned() };
        if let Some(part) = loaded.or_else(|| self.store.cached(key)) {
            return Some(part);
        }
        let wanted = if self.looks_ahead { &mut self.ahead } else { &mut self.wanted };
        wanted.insert(key, need);
        None
    }
}
