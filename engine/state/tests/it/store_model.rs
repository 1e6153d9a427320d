//! The store must look like a few ordered maps whatever happens underneath.
//!
//! Method: random operations run against shards and the model side by side. Flushes, spills,
//! compactions, checkpoints, aborts, reopening and rescaling change the shape of the state and
//! never the answer.

use std::time::Duration;

use proptest::prelude::*;
use weir_runtime::sim;
use weir_runtime::sim::store::{SimStore, SimStoreSettings};
use weir_state::ids::Generation;

use crate::store_world::{Completed, KEYS, MAP_KEYS, Open, World, Write, tiny};

#[derive(Clone, Debug)]
enum Op {
    Write(Write),
    /// Many writes, so that memtables spill and levels fill.
    Burst(u8),
    Maintain,
    Settle,
    Fire(i64, usize),
    SetWhileDue(i64, u8),
    Checkpoint,
    /// A barrier whose uploads go on while other things happen.
    Cut,
    /// The uploads of the last cut end, and it completes.
    Complete,
    /// The last cut is given up; nothing is undone.
    Abort,
    Rescale(u32),
    /// The process dies and another one starts from the last completed checkpoint.
    Reopen(u32),
    Check,
}

fn write() -> impl Strategy<Value = Write> {
    let key = 0..KEYS;
    let time = -3..30i64;
    prop_oneof![
        4 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Write::Put(key, value)),
        2 => key.clone().prop_map(Write::Delete),
        4 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Write::Append(key, value)),
        1 => (key.clone(), proptest::collection::vec(any::<u8>(), 0..4))
            .prop_map(|(key, values)| Write::PutList(key, values)),
        1 => key.clone().prop_map(Write::DeleteList),
        4 => (key.clone(), 0..MAP_KEYS, any::<u8>())
            .prop_map(|(key, map_key, value)| Write::MapPut(key, map_key, value)),
        2 => (key.clone(), 0..MAP_KEYS).prop_map(|(key, map_key)| Write::MapDelete(key, map_key)),
        3 => (time.clone(), key.clone()).prop_map(|(time, key)| Write::SetTimer(time, key)),
        2 => (time, key).prop_map(|(time, key)| Write::ClearTimer(time, key)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        30 => write().prop_map(Op::Write),
        3 => any::<u8>().prop_map(Op::Burst),
        4 => Just(Op::Maintain),
        2 => Just(Op::Settle),
        3 => (-3..30i64, 1..100usize).prop_map(|(time, limit)| Op::Fire(time, limit)),
        2 => (-3..30i64, 0..KEYS).prop_map(|(time, key)| Op::SetWhileDue(time, key)),
        4 => Just(Op::Checkpoint),
        2 => Just(Op::Cut),
        2 => Just(Op::Complete),
        1 => Just(Op::Abort),
        1 => (1..5u32).prop_map(Op::Rescale),
        1 => (1..5u32).prop_map(Op::Reopen),
        6 => Just(Op::Check),
    ]
}

struct Run {
    world: World,
    cache_bytes: usize,
    generation: Generation,
    completed: Completed,
    open: Option<Open>,
}

impl Run {
    async fn op(&mut self, op: &Op) -> Result<(), weir_state::StateError> {
        match op {
            Op::Write(write) => self.world.write(write),
            Op::Burst(seed) => self.burst(*seed).await?,
            Op::Maintain => self.world.maintain()?,
            Op::Settle => self.world.settle().await?,
            Op::Fire(time, limit) => self.world.fire(*time, *limit).await?,
            Op::SetWhileDue(time, key) => self.world.set_while_due(*time, *key).await?,
            Op::Checkpoint => self.completed = self.world.checkpoint().await?,
            Op::Cut => self.open = Some(self.world.cut()),
            Op::Complete => {
                if let Some(open) = self.open.take() {
                    let acknowledged = self.world.acknowledge(open).await?;
                    self.completed = self.world.complete(acknowledged);
                }
            }
            Op::Abort => self.open = None,
            Op::Rescale(width) => {
                self.open = None;
                self.world.rescale(*width).await?;
            }
            Op::Reopen(width) => {
                self.open = None;
                self.generation = self.generation.next();
                let (sim, from) = (self.world.sim.clone(), &self.completed);
                let settings = tiny(self.cache_bytes);
                self.world = World::open(&sim, settings, self.generation, from, *width);
            }
            Op::Check => self.world.check().await?,
        }
        Ok(())
    }

    async fn burst(&mut self, seed: u8) -> Result<(), weir_state::StateError> {
        for number in 0..100u8 {
            let mixed = number.wrapping_mul(37).wrapping_add(seed);
            let key = mixed % KEYS;
            self.world.write(&Write::Put(key, mixed));
            self.world.write(&Write::MapPut(key, number % MAP_KEYS, mixed));
            if number % 10 == 0 {
                self.world.write(&Write::Append(key, mixed));
                self.world.write(&Write::SetTimer(i64::from(mixed), key));
                for shard in &mut self.world.shards {
                    shard.make_room().await?;
                }
            }
        }
        Ok(())
    }
}

fn run(seed: u64, cache_bytes: usize, width: u32, ops: &[Op]) {
    sim::run(seed, async {
        let most = Duration::from_millis(5);
        let sim = SimStore::new(SimStoreSettings::with_latency(seed, Duration::ZERO, most));
        let generation = Generation(1);
        let completed = Completed::default();
        let world = World::open(&sim, tiny(cache_bytes), generation, &completed, width);
        let mut run = Run { world, cache_bytes, generation, completed, open: None };
        for op in ops {
            run.op(op).await.expect("the store works");
        }
        run.world.check().await.expect("the store works");
        run.world.settle().await.expect("the store works");
        run.world.check().await.expect("the store works");
        assert!(run.world.store.cache_bytes() <= cache_bytes);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn shards_answer_like_the_model(
        seed: u64,
        cache_bytes in prop_oneof![Just(0usize), Just(2_000), Just(1 << 20)],
        width in 1..4u32,
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        run(seed, cache_bytes, width, &ops);
    }
}
