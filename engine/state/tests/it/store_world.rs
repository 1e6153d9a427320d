//! Shards beside a model: what both are told to do, and how they are compared.
//!
//! The model is a few ordered maps. Keys come from a tiny alphabet, so that overwrites, deletes and
//! re-inserts of one key are common.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;
use weir_runtime::clock;
use weir_runtime::sim::store::SimStore;
use weir_state::StateError;
use weir_state::compaction::Compactor;
use weir_state::ids::{CheckpointId, Generation, KeyGroup, KeyGroupRange};
use weir_state::key::{StateId, StateKey};
use weir_state::list;
use weir_state::names::ObjectNamer;
use weir_state::shard::{Shard, ShardCheckpoint, ShardSpec};
use weir_state::store::{Settings, StateStore};
use weir_state::version::Version;
use weir_state::version::record::VersionRecord;

use crate::store_compactor::Elsewhere;

/// The folder of the simulated incarnation.
pub(crate) const FOLDER: &str = "job/1-a";
pub(crate) const GROUPS: u16 = 8;
/// User keys are the numbers below this one.
pub(crate) const KEYS: u8 = 16;
/// Map keys are the numbers below this one.
pub(crate) const MAP_KEYS: u8 = 6;
pub(crate) const STEP: &str = "step";

const VALUE: StateId = StateId(0);
const LIST: StateId = StateId(1);
const MAP: StateId = StateId(2);

/// Small enough that everything happens within a few operations.
pub(crate) fn tiny(cache_bytes: usize) -> Settings {
    Settings {
        cache_bytes,
        memtable_bytes: 2_000,
        block_bytes: 64,
        table_bytes: 400,
        level_bytes: 1_500,
        requests_in_flight_max: 16,
        bytes_in_flight_max: 16 << 10,
        retry_max_ms: 60_000,
        attempt_timeout_ms: 1_000,
    }
}

/// What the shards should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) values: BTreeMap<u8, Vec<u8>>,
    pub(crate) lists: BTreeMap<u8, Vec<Vec<u8>>>,
    pub(crate) maps: BTreeMap<(u8, u8), Vec<u8>>,
    /// (time, key)
    pub(crate) timers: BTreeSet<(i64, u8)>,
}

/// Something done to the content.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Put(u8, u8),
    Delete(u8),
    Append(u8, u8),
    PutList(u8, Vec<u8>),
    DeleteList(u8),
    MapPut(u8, u8, u8),
    MapDelete(u8, u8),
    SetTimer(i64, u8),
    ClearTimer(i64, u8),
}

/// A completed checkpoint, and what the model was at its barrier.
#[derive(Clone, Debug, Default)]
pub(crate) struct Completed {
    pub(crate) records: Vec<VersionRecord>,
    pub(crate) model: Model,
}

/// A checkpoint whose uploads go on.
pub(crate) struct Open {
    pub(crate) id: CheckpointId,
    pub(crate) model: Model,
    pub(crate) shards: Vec<ShardCheckpoint>,
}

/// A checkpoint that all shards acknowledged.
pub(crate) struct Acknowledged {
    pub(crate) id: CheckpointId,
    pub(crate) completed: Completed,
    pub(crate) unnamed: Vec<String>,
}

/// A worker's shards, over all key groups, beside the model.
pub(crate) struct World {
    pub(crate) sim: SimStore,
    pub(crate) store: Arc<StateStore>,
    pub(crate) shards: Vec<Shard>,
    pub(crate) model: Model,
    pub(crate) namer: ObjectNamer,
    next_checkpoint: CheckpointId,
    /// All objects that acknowledgements named.
    named: BTreeSet<String>,
}

pub(crate) fn group(key: u8) -> KeyGroup {
    KeyGroup(u16::from(key) % GROUPS)
}

fn state_key(state: StateId, key: u8) -> StateKey {
    // Lengths differ, so that no layout hides behind keys of one length.
    let user = vec![key; usize::from(key % 3) + 1];
    StateKey::new(group(key), state, &user, &[key / 4])
}

fn content(value: u8) -> Bytes {
    vec![value; usize::from(value % 20)].into()
}

impl World {
    /// A worker process that starts from a checkpoint with this many shards.
    pub(crate) fn open(
        sim: &SimStore,
        settings: Settings,
        generation: Generation,
        from: &Completed,
        shards: u32,
    ) -> Self {
        let elsewhere: Arc<dyn Compactor> = Arc::new(Elsewhere::draw(sim, &settings));
        let objects: Arc<dyn ObjectStore> = Arc::new(sim.clone());
        let folder = Path::from(FOLDER);
        let store = StateStore::with_compactor(objects, folder, settings, Some(elsewhere));
        let namer = ObjectNamer::new(generation, "w");
        let mut world = Self {
            sim: sim.clone(),
            store,
            shards: Vec::new(),
            model: from.model.clone(),
            namer,
            next_checkpoint: CheckpointId(generation.0 * 1000),
            named: BTreeSet::new(),
        };
        world.open_shards(&from.records, shards);
        world
    }

    fn open_shards(&mut self, records: &[VersionRecord], width: u32) {
        let shard = |index| {
            let range = KeyGroupRange::of_subtask(index, width, GROUPS);
            let version = Version::restore(STEP, range, records).expect("records cover all groups");
            let spec = ShardSpec { step: STEP.into(), range, namer: self.namer.clone() };
            Shard::open(&self.store, spec, version).expect("the version is of the shard")
        };
        self.shards = (0..width).map(shard).collect();
    }

    /// Clips and merges: the same content in another number of shards.
    pub(crate) async fn rescale(&mut self, width: u32) -> Result<(), StateError> {
        let cut = self.checkpoint().await?;
        self.open_shards(&cut.records, width);
        Ok(())
    }

    fn shard(&mut self, key: u8) -> &mut Shard {
        let owns = |shard: &&mut Shard| shard.range().contains(group(key));
        self.shards.iter_mut().find(owns).expect("the shards cover all groups")
    }

    pub(crate) fn write(&mut self, write: &Write) {
        match write {
            Write::Put(key, value) => {
                self.shard(*key).put(&state_key(VALUE, *key), content(*value));
                self.model.values.insert(*key, content(*value).to_vec());
            }
            Write::Delete(key) => {
                self.shard(*key).delete(&state_key(VALUE, *key));
                self.model.values.remove(key);
            }
            Write::Append(key, value) => {
                self.shard(*key).append(&state_key(LIST, *key), &content(*value));
                self.model.lists.entry(*key).or_default().push(content(*value).to_vec());
            }
            Write::PutList(key, values) => {
                let elements: Vec<_> =
                    values.iter().map(|value| content(*value).to_vec()).collect();
                self.shard(*key).put(&state_key(LIST, *key), list::encode_all(&elements));
                self.model.lists.insert(*key, elements);
            }
            Write::DeleteList(key) => {
                self.shard(*key).delete(&state_key(LIST, *key));
                self.model.lists.remove(key);
            }
            Write::MapPut(key, map_key, value) => {
                let state = state_key(MAP, *key);
                self.shard(*key).map_put(&state, &[*map_key], content(*value));
                self.model.maps.insert((*key, *map_key), content(*value).to_vec());
            }
            Write::MapDelete(key, map_key) => {
                self.shard(*key).map_delete(&state_key(MAP, *key), &[*map_key]);
                self.model.maps.remove(&(*key, *map_key));
            }
            Write::SetTimer(time, key) => {
                self.shard(*key).set_timer(group(*key), *time, &[*key], b"ns");
                self.model.timers.insert((*time, *key));
            }
            Write::ClearTimer(time, key) => {
                self.shard(*key).clear_timer(group(*key), *time, &[*key], b"ns");
                self.model.timers.remove(&(*time, *key));
            }
        }
    }

    pub(crate) fn maintain(&mut self) -> Result<(), StateError> {
        self.shards.iter_mut().try_for_each(Shard::maintain)
    }

    /// Lets all background work finish.
    pub(crate) async fn settle(&mut self) -> Result<(), StateError> {
        loop {
            self.maintain()?;
            if self.shards.iter().all(Shard::is_idle) {
                return Ok(());
            }
            clock::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The barrier: cuts every shard.
    pub(crate) fn cut(&mut self) -> Open {
        self.next_checkpoint = self.next_checkpoint.next();
        let id = self.next_checkpoint;
        let shards = self.shards.iter_mut().map(|shard| shard.checkpoint(id)).collect();
        Open { id, model: self.model.clone(), shards }
    }

    /// Waits for the uploads of a cut, which gives what the coordinator would record. No
    /// acknowledgement, recorded or not, may ever have named what is reported as unnamed.
    pub(crate) async fn acknowledge(&mut self, open: Open) -> Result<Acknowledged, StateError> {
        let mut completed = Completed { records: Vec::new(), model: open.model };
        let mut unnamed = Vec::new();
        for shard in open.shards {
            let ack = shard.await?;
            self.named.extend(ack.version.views.iter().map(|view| view.name.clone()));
            let named = ack.unnamed.iter().find(|name| self.named.contains(*name));
            assert_eq!(named, None, "reported as unnamed");
            unnamed.extend(ack.unnamed);
            completed.records.push(ack.version);
        }
        Ok(Acknowledged { id: open.id, completed, unnamed })
    }

    /// The record is in the journal: what was reported is deleted, the shards are told.
    pub(crate) fn complete(&mut self, acknowledged: Acknowledged) -> Completed {
        acknowledged.unnamed.iter().for_each(|name| self.sim.uproot(&object_path(name)));
        self.shards.iter_mut().for_each(|shard| shard.completed(acknowledged.id));
        acknowledged.completed
    }

    /// A checkpoint from barrier to notification.
    pub(crate) async fn checkpoint(&mut self) -> Result<Completed, StateError> {
        let open = self.cut();
        let acknowledged = self.acknowledge(open).await?;
        Ok(self.complete(acknowledged))
    }

    /// Sets a timer while a scan for due ones is under way.
    pub(crate) async fn set_while_due(&mut self, time_ms: i64, key: u8) -> Result<(), StateError> {
        let due = self.shard(key).due_timers(i64::MAX, 100);
        self.write(&Write::SetTimer(time_ms, key));
        due.wait().await.map(|_| ())
    }

    /// Fires all timers up to a time, as a step does.
    pub(crate) async fn fire(&mut self, up_to_ms: i64, limit: usize) -> Result<(), StateError> {
        for index in 0..self.shards.len() {
            loop {
                let due = self.shards[index].due_timers(up_to_ms, limit).wait().await?;
                assert!(!due.timers.is_empty() || !due.more, "more is due but nothing was found");
                for timer in &due.timers {
                    assert!(self.model.timers.remove(&(timer.time_ms, timer.key[0])), "{timer:?}");
                    self.shards[index].clear_timer(
                        timer.group,
                        timer.time_ms,
                        &timer.key,
                        &timer.namespace,
                    );
                }
                if !due.more {
                    break;
                }
            }
        }
        let left = self.model.timers.iter().find(|(time, _)| *time <= up_to_ms);
        assert_eq!(left, None, "a timer up to {up_to_ms} did not fire");
        Ok(())
    }

    /// Compares everything, on all read paths.
    pub(crate) async fn check(&mut self) -> Result<(), StateError> {
        self.check_points().await?;
        self.check_maps().await?;
        self.check_timers().await?;
        self.check_scan().await
    }

    async fn check_points(&mut self) -> Result<(), StateError> {
        for shard in &self.shards {
            let owned: Vec<u8> =
                (0..KEYS).filter(|key| shard.range().contains(group(*key))).collect();
            let keys: Vec<_> = owned.iter().map(|key| state_key(VALUE, *key)).collect();
            let lists: Vec<_> = owned.iter().map(|key| state_key(LIST, *key)).collect();
            // Both under way at once, as batches of one worker are.
            let (values, lists) = (shard.multi_get(&keys), shard.multi_get(&lists));
            let (values, lists) = futures::try_join!(values.wait(), lists.wait())?;
            for ((key, value), list) in owned.iter().zip(values).zip(lists) {
                let value = value.map(|value| value.to_vec());
                assert_eq!(value, self.model.values.get(key).cloned(), "value of {key}");
                let list: Vec<Vec<u8>> = list::elements(list).map(|one| one.to_vec()).collect();
                let expected = self.model.lists.get(key).cloned().unwrap_or_default();
                assert_eq!(list, expected, "list of {key}");
            }
        }
        Ok(())
    }

    async fn check_maps(&mut self) -> Result<(), StateError> {
        let map_keys: Vec<Bytes> = (0..MAP_KEYS).map(|key| vec![key].into()).collect();
        for key in 0..KEYS {
            let expected = self.model.maps.range((key, 0)..=(key, u8::MAX));
            let expected: Vec<(u8, Vec<u8>)> =
                expected.map(|((_, map_key), value)| (*map_key, value.clone())).collect();
            let state = state_key(MAP, key);
            let shard = self.shard(key);
            let values = shard.map_get(&state, &map_keys).wait().await?;
            let found = (0..).zip(values).filter_map(|(key, value)| Some((key, value?.to_vec())));
            assert_eq!(found.collect::<Vec<(u8, _)>>(), expected, "map of {key}");
            let (mut walked, mut resume) = (Vec::new(), None);
            loop {
                let chunk = shard.map_chunk(&state, resume.as_ref(), 2).wait().await?;
                assert!(chunk.entries.len() <= 2);
                walked
                    .extend(chunk.entries.into_iter().map(|(key, value)| (key[0], value.to_vec())));
                resume = chunk.resume;
                if resume.is_none() {
                    break;
                }
            }
            assert_eq!(walked, expected, "walk of the map of {key}");
        }
        Ok(())
    }

    async fn check_timers(&mut self) -> Result<(), StateError> {
        for shard in &self.shards {
            let own: Vec<(i64, u8)> = self.model.timers.iter().copied().collect();
            let own = own.into_iter().filter(|(_, key)| shard.range().contains(group(*key)));
            let own: Vec<_> = own.collect();
            let first = own.first().map_or(i64::MAX, |(time, _)| *time);
            assert!(shard.next_timer_ms() <= first, "{} of {first}", shard.next_timer_ms());
            let due = shard.due_timers(i64::MAX, 1000).wait().await?;
            assert!(!due.timers.is_empty() || !due.more, "more is due but nothing was found");
            let found: Vec<_> =
                due.timers.iter().map(|timer| (timer.time_ms, timer.key[0])).collect();
            assert!(found.is_sorted_by_key(|(time, _)| *time));
            let known = found.last().map_or(i64::MIN, |(time, _)| *time);
            let until = if due.more { known } else { i64::MAX };
            let mut sorted = found.clone();
            sorted.sort_unstable();
            let missing = own.iter().find(|timer| timer.0 < until && !found.contains(timer));
            assert_eq!(missing, None, "of {own:?} only {found:?}");
            assert!(sorted.iter().all(|timer| own.contains(timer)), "{sorted:?} of {own:?}");
        }
        Ok(())
    }

    /// The other read path: one ordered walk over everything.
    async fn check_scan(&mut self) -> Result<(), StateError> {
        let mut found = BTreeMap::new();
        for shard in &self.shards {
            let mut scan = shard.scan();
            while let Some(chunk) = scan.next_chunk().await? {
                assert!(chunk.is_sorted_by(|one, two| one.0 < two.0));
                found.extend(chunk);
            }
        }
        let values = self.model.values.iter().map(|(key, value)| {
            (state_key(VALUE, *key).as_bytes().to_vec(), Bytes::from(value.clone()))
        });
        let lists = self.model.lists.iter().map(|(key, elements)| {
            (state_key(LIST, *key).as_bytes().to_vec(), list::encode_all(elements))
        });
        let maps = self.model.maps.iter().map(|((key, map_key), value)| {
            let mut composite = state_key(MAP, *key).as_bytes().to_vec();
            composite.push(*map_key);
            (composite, Bytes::from(value.clone()))
        });
        let expected: BTreeMap<_, _> = values.chain(lists).chain(maps).collect();
        let is_timer = |key: &Bytes| key[2..4] == [0xff, 0xff];
        let timers = found.keys().filter(|key| is_timer(key)).count();
        assert_eq!(timers, self.model.timers.len());
        found.retain(|key, _| !is_timer(key));
        let found: BTreeMap<_, _> =
            found.into_iter().map(|(key, value)| (key.to_vec(), value)).collect();
        assert_eq!(found, expected);
        Ok(())
    }
}

/// Where an object of the simulated incarnation lies.
pub(crate) fn object_path(name: &str) -> Path {
    Path::from(format!("{FOLDER}/objects/{name}"))
}
