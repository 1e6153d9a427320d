//! Compactors of simulated processes: they carry out orders, die at it, stall, and answer what
//! nobody asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use weir_runtime::sim::Process;
use weir_runtime::sim::store::SimStore;
use weir_runtime::{clock, random};
use weir_state::compaction::{self, CompactionOrder, CompactionResult, Compactor, Merged, NotDone};
use weir_state::store::{Settings, StateStore};

use crate::store_world::FOLDER;

/// What becomes of an order.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Refused,
    /// It dies within this time.
    Dies(Duration),
    /// It is given up after this time, and works on.
    Stalls(Duration),
    /// It gives the result of another order.
    Confused,
    Done,
}

#[derive(Debug)]
pub(crate) struct Elsewhere {
    sim: SimStore,
    settings: Settings,
    is_off: bool,
    /// The result before.
    last: Arc<Mutex<Option<CompactionResult>>>,
}

impl Elsewhere {
    /// One that works or that is not wanted.
    pub(crate) fn draw(sim: &SimStore, settings: &Settings) -> Self {
        let (sim, settings) = (sim.clone(), settings.clone());
        Self { sim, settings, is_off: random::below(3) == 0, last: Arc::default() }
    }
}

fn draw() -> Fate {
    let soon = || Duration::from_millis(random::below(60));
    match random::below(12) {
        0 => Fate::Refused,
        1 | 2 => Fate::Dies(soon()),
        3 | 4 => Fate::Stalls(soon()),
        5 => Fate::Confused,
        _ => Fate::Done,
    }
}

impl Compactor for Elsewhere {
    fn compact(
        &self,
        order: CompactionOrder,
    ) -> BoxFuture<'static, Result<CompactionResult, NotDone>> {
        let process = Process::new(format!("compactor-{}", order.name()), 0);
        let store = StateStore::new(
            Arc::new(self.sim.clone()),
            Path::from(FOLDER),
            // Only the order says how files are cut.
            Settings { block_bytes: 1 << 10, table_bytes: 1 << 20, ..self.settings.clone() },
        );
        let last = Arc::clone(&self.last);
        let given_up = |why: &str| Err(NotDone::GivenUp(why.to_owned()));
        async move {
            let fate = draw();
            if matches!(fate, Fate::Refused) {
                return Err(NotDone::NotTaken("drawn".to_owned()));
            }
            let work = async move { compaction::run(&order, &store, &Merged::default()).await };
            let mut task = process.spawn(work);
            let limit = match fate {
                Fate::Dies(after) | Fate::Stalls(after) => after,
                Fate::Refused | Fate::Confused | Fate::Done => Duration::from_secs(600),
            };
            let Ok(ended) = clock::timeout(limit, &mut task).await else {
                if !matches!(fate, Fate::Stalls(_)) {
                    process.kill();
                }
                return given_up("drawn");
            };
            let Ok(Ok(result)) = ended else { return given_up("it failed") };
            let before = last.lock().unwrap().replace(result.clone());
            match (fate, before) {
                (Fate::Confused, Some(before)) => Ok(before),
                _ => Ok(result),
            }
        }
        .boxed()
    }

    fn is_off(&self) -> bool {
        self.is_off
    }

    fn done_here(&self, _: &str) {}
}
