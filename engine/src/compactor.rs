//! A compactor process: carries out compactions that workers order, and remembers nothing.
//!
//! docs/design/0016-remote-compaction.md. It reads the inputs that an order names and writes the
//! outputs under the names that it allows; whether they become anything is decided by the shard that
//! ordered. What must stay true:
//!
//! 1. A task ends when its call does: who is not waited for does not write.
//! 2. A generation that it has heard of voids all tasks of older ones.
//! 3. It answers only once everything is stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prost::Message as _;
use tokio::sync::{Semaphore, watch};
use weir_runtime::{clock, task};
use weir_state::compaction::{self, CompactionOrder, CompactionResult, Merged};
use weir_state::store::{Settings, StateStore};

use crate::execution::error::chain;
use crate::network::{CompactionLink, Network, SenderLink, WorkerLink, WorkerService};
use crate::pipeline::spec::StoreSpec;
use crate::protocol::from_compactor::Body;
use crate::protocol::{
    CompactionPulse, CompactionTask, FromCompactor, OpenChannel, PROTOCOL_VERSION,
};
use crate::worker::{OpenObjects, WorkerError};

/// Tasks that run at the same time.
const TASKS_RUNNING_MAX: usize = 2;
/// Tasks that wait for their turn; another one is refused.
const TASKS_WAITING_MAX: usize = 8;
/// Memory of one task for requests in flight.
const TASK_BYTES_IN_FLIGHT: usize = 64 << 20;
/// Memory of one task for blocks that are asked for twice.
const TASK_CACHE_BYTES: usize = 8 << 20;
/// Requests of one task to the object store at the same time.
const TASK_REQUESTS_MAX: usize = 64;
/// How long a request is repeated: less than a worker waits for progress.
const RETRY_MAX: Duration = Duration::from_secs(20);
/// How often it tells that it lives.
const PULSE_EVERY: Duration = Duration::from_secs(1);
/// How long a call may take to say what it is about.
const TASK_MAX: Duration = Duration::from_secs(5);

/// What a compactor process is told when it starts.
#[derive(Clone, Debug)]
pub struct CompactorSettings {
    /// The process's own random id.
    pub incarnation: String,
    /// The run's token: whoever does not know it is refused.
    pub token: String,
    /// Once true, it takes no more and ends when nothing runs.
    pub leave: watch::Receiver<bool>,
}

/// Runs a compactor until it has left; `ready` gets the address to dial.
///
/// Dropping the future ends the service and all tasks.
pub async fn run(
    settings: CompactorSettings,
    network: Arc<dyn Network>,
    open_objects: OpenObjects,
    ready: impl FnOnce(&str) + Send,
) -> Result<(), WorkerError> {
    let incarnation = settings.incarnation.clone();
    let mut leave = settings.leave.clone();
    let shop = Arc::new(Shop {
        settings,
        open_objects,
        running: Semaphore::new(TASKS_RUNNING_MAX),
        taken: AtomicUsize::new(0),
        generations: watch::Sender::new(BTreeMap::new()),
    });
    let serving = network.serve(Arc::new(Front(Arc::clone(&shop)))).await;
    let serving = serving.map_err(|cause| WorkerError::Listen { worker: incarnation, cause })?;
    ready(&serving.address);
    if leave.wait_for(|asked| *asked).await.is_err() {
        // Nobody is left who could ask.
        std::future::pending::<()>().await;
    }
    while shop.taken.load(Ordering::Relaxed) > 0 {
        clock::sleep(PULSE_EVERY / 4).await;
    }
    Ok(())
}

/// What all tasks share.
struct Shop {
    settings: CompactorSettings,
    open_objects: OpenObjects,
    running: Semaphore,
    /// Tasks that run or wait.
    taken: AtomicUsize,
    /// The newest generation of each incarnation of a job.
    generations: watch::Sender<BTreeMap<String, u64>>,
}

/// What the network calls; hands everything on without waiting.
struct Front(Arc<Shop>);

impl WorkerService for Front {
    fn control(&self, link: WorkerLink) {
        drop(link);
    }

    fn channel(&self, _: OpenChannel, link: SenderLink) {
        drop(link);
    }

    fn compaction(&self, link: CompactionLink) {
        let shop = Arc::clone(&self.0);
        task::spawn(async move { shop.serve(link).await }).detach();
    }
}

/// A task's place; dropped, another one may have it.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shop {
    async fn serve(&self, mut link: CompactionLink) {
        let first = clock::timeout(TASK_MAX, link.receive.recv()).await.ok().flatten();
        let Some(task) = first.and_then(|first| first.task) else { return };
        let taken = match self.take(&task) {
            Ok(taken) => taken,
            Err(refused) => return say(&link, Body::Refused(refused)).await,
        };
        let (order, _place) = taken;
        let merged = Merged::default();
        let mut generations = self.generations.subscribe();
        let is_voided = |newest: &BTreeMap<String, u64>| {
            newest.get(&task.incarnation).is_some_and(|newest| *newest > order.generation)
        };
        let work = Box::pin(self.work(&task, &order, &merged));
        let send = link.send.clone();
        let answer = tokio::select! {
            biased;
            _ = generations.wait_for(is_voided) => return,
            () = closed(&mut link) => return,
            answer = pulsing(&send, &merged, work) => answer,
        };
        say(&link, answer).await;
    }

    /// Looks at a task; `Err`: why it is refused.
    fn take(&self, task: &CompactionTask) -> Result<(CompactionOrder, Place<'_>), String> {
        if task.protocol > PROTOCOL_VERSION {
            let protocol = task.protocol;
            return Err(format!("protocol {protocol}, this compactor speaks {PROTOCOL_VERSION}"));
        }
        if task.token != self.settings.token {
            return Err("the token is not this run's".to_owned());
        }
        if *self.settings.leave.borrow() {
            return Err("this compactor was asked to end".to_owned());
        }
        let order = CompactionOrder::decode(&task.order[..])
            .map_err(|error| format!("the order cannot be read: {error}"))?;
        self.generations.send_if_modified(|newest| {
            let newest = newest.entry(task.incarnation.clone()).or_default();
            let is_newer = order.generation > *newest;
            *newest = order.generation.max(*newest);
            is_newer
        });
        let newest = self.generations.borrow().get(&task.incarnation).copied().unwrap_or_default();
        if newest > order.generation {
            return Err(format!("generation {} was superseded by {newest}", order.generation));
        }
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.taken);
        if taken >= TASKS_RUNNING_MAX + TASKS_WAITING_MAX {
            return Err(format!("its queue is full ({TASKS_WAITING_MAX} tasks wait)"));
        }
        Ok((order, place))
    }

    async fn work(&self, task: &CompactionTask, order: &CompactionOrder, merged: &Merged) -> Body {
        let _turn = self.running.acquire().await;
        merged.begin();
        match self.compact(task, order, merged).await {
            Ok(result) => Body::Result(result.encode_to_vec()),
            Err(why) => Body::Failed(why),
        }
    }

    async fn compact(
        &self,
        task: &CompactionTask,
        order: &CompactionOrder,
        merged: &Merged,
    ) -> Result<CompactionResult, String> {
        let store = match task.state_store_json.as_str() {
            "" => StoreSpec::default(),
            json => serde_json::from_str(json).map_err(|error| error.to_string())?,
        };
        let objects = (self.open_objects)(&task.base_folder);
        let location = objects.open(&task.state_uri, &store).map_err(|error| chain(&error))?;
        let settings = Settings {
            cache_bytes: TASK_CACHE_BYTES,
            requests_in_flight_max: TASK_REQUESTS_MAX,
            bytes_in_flight_max: TASK_BYTES_IN_FLIGHT,
            retry_max_ms: u64::try_from(RETRY_MAX.as_millis()).unwrap_or(u64::MAX),
            ..Settings::default()
        };
        let folder = location.path.join(task.incarnation.as_str());
        let store = StateStore::new(location.store, folder, settings);
        match compaction::run(order, &store, merged).await {
            Ok(result) => {
                let (name, bytes, entries) = (order.name(), order.bytes(), merged.entries());
                tracing::info!(bytes, entries, "carried out compaction {name}");
                Ok(result)
            }
            Err(error) => Err(chain(&error)),
        }
    }
}

/// Waits for the end of the call.
async fn closed(link: &mut CompactionLink) {
    while link.receive.recv().await.is_some() {}
}

/// Tells now and then how far the work is, until it is done.
async fn pulsing(
    send: &tokio::sync::mpsc::Sender<FromCompactor>,
    merged: &Merged,
    mut work: impl Future<Output = Body> + Unpin,
) -> Body {
    loop {
        let pulse = CompactionPulse { begun: merged.has_begun(), entries: merged.entries() };
        // A worker that does not read it has its own reasons.
        let _ = send.try_send(FromCompactor { body: Some(Body::Pulse(pulse)) });
        if let Ok(answer) = clock::timeout(PULSE_EVERY, &mut work).await {
            return answer;
        }
    }
}

async fn say(link: &CompactionLink, body: Body) {
    // Nobody waits any more: then nobody needs to know.
    let _ = link.send.send(FromCompactor { body: Some(body) }).await;
}
