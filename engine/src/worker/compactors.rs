//! The compactors that a worker knows: picks one for each compaction and waits for it, with limits.
//!
//! The coordinator says who there is (`Compactors`); a worker dials them itself and gives each a task
//! at a time or two. Whatever goes wrong ends in [`NotDone`], and the shard goes on by itself.
//!
//! What must stay true: every wait has a deadline; an attempt of which it is not known that nothing
//! was written is given up, never just forgotten.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use prost::Message as _;
use weir_runtime::clock::{self, Instant};
use weir_state::compaction::{CompactionOrder, CompactionResult, Compactor, NotDone};

use crate::network::{Network, OrderLink};
use crate::protocol::from_compactor::Body;
use crate::protocol::{CompactionCounters, CompactionTask, Compactors, ToCompactor};

/// Tasks that one worker gives to one compactor at the same time.
const TASKS_EACH_MAX: u32 = 2;
/// How long a compactor that failed gets no task.
const REST: Duration = Duration::from_secs(5);
/// How long a dial may take.
const DIAL_MAX: Duration = Duration::from_secs(5);
/// A compactor that says nothing for this long is dead.
const SILENT_MAX: Duration = Duration::from_secs(5);
/// A task that has not begun after this is taken back: the pool is behind.
const QUEUED_MAX: Duration = Duration::from_secs(20);
/// A merge that goes through no entry for this long stalls.
const STALLED_MAX: Duration = Duration::from_secs(30);
/// After so long in which the worker compacted nothing itself nothing is amiss any more.
const QUIET: Duration = Duration::from_secs(10);
/// No task takes longer.
const TASK_MAX: Duration = Duration::from_secs(600);

/// What this worker knows of compactors, in whatever generation.
pub(crate) struct Pool {
    network: Arc<dyn Network>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Whether compactions are to be given away at all.
    wanted: bool,
    /// By address.
    seats: BTreeMap<String, Seat>,
    counters: CompactionCounters,
    /// When the worker had to compact itself for the last time.
    here_at: Option<Instant>,
}

#[derive(Clone, Debug, Default)]
struct Seat {
    tasks: u32,
    /// It failed: no task before.
    rests_until: Option<Instant>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("known", &self.known).finish_non_exhaustive()
    }
}

impl Pool {
    /// Knows nobody, and is not wanted.
    pub(crate) fn new(network: Arc<dyn Network>) -> Arc<Self> {
        Arc::new(Self { network, known: Mutex::default() })
    }

    /// From now on these.
    pub(crate) fn set(&self, now: &Compactors) {
        let mut known = self.lock();
        known.wanted = now.wanted;
        let addresses = now.compactors.iter().map(|member| member.address.clone());
        let mut before = std::mem::take(&mut known.seats);
        known.seats = addresses
            .map(|address| {
                let seat = before.remove(&address).unwrap_or_default();
                (address, seat)
            })
            .collect();
        if !known.wanted {
            return;
        }
        if known.seats.is_empty() {
            known.counters.problem = NOBODY.to_owned();
        } else if known.counters.problem == NOBODY && known.is_quiet() {
            // Somebody is there, and nothing had to be done here meanwhile.
            known.counters.problem.clear();
        }
    }

    /// A generation begins: it counts from 0.
    pub(crate) fn begin(&self) {
        let counters = &mut self.lock().counters;
        *counters = CompactionCounters {
            problem: std::mem::take(&mut counters.problem),
            ..CompactionCounters::default()
        };
    }

    /// What is shown; `None` where no compactors are wanted.
    pub(crate) fn counters(&self) -> Option<CompactionCounters> {
        let known = self.lock();
        known.wanted.then(|| known.counters.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The least busy one that does not rest and was not asked yet.
    fn pick(self: &Arc<Self>, asked: &[String]) -> Result<Taken, String> {
        let mut known = self.lock();
        let now = clock::now();
        if known.seats.is_empty() {
            return Err(NOBODY.to_owned());
        }
        let rests = |seat: &Seat| seat.rests_until.is_some_and(|until| now < until);
        let usable = known.seats.iter_mut().filter(|(address, seat)| {
            !rests(seat) && seat.tasks < TASKS_EACH_MAX && !asked.contains(address)
        });
        let Some((address, seat)) = usable.min_by_key(|(_, seat)| seat.tasks) else {
            let count = known.seats.len();
            return Err(format!("none of {count} compactors takes another task"));
        };
        seat.tasks += 1;
        Ok(Taken { pool: Arc::clone(self), address: address.clone() })
    }
}

impl Known {
    fn done(&mut self) {
        self.counters.elsewhere += 1;
        // Not at once: where compactors do some and the worker the others it would come and go.
        if self.is_quiet() {
            self.counters.problem.clear();
        }
    }

    fn is_quiet(&self) -> bool {
        let now = clock::now();
        self.here_at.is_none_or(|at| now.saturating_duration_since(at) >= QUIET)
    }
}

/// Why a worker compacts itself while there is nobody else.
const NOBODY: &str = "no compactor is there";

/// A compactor's attention; dropped, another task may have it.
struct Taken {
    pool: Arc<Pool>,
    address: String,
}

impl Taken {
    fn rest(&self) {
        if let Some(seat) = self.pool.lock().seats.get_mut(&self.address) {
            seat.rests_until = Some(clock::now() + REST);
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(seat) = self.pool.lock().seats.get_mut(&self.address) {
            seat.tasks = seat.tasks.saturating_sub(1);
        }
    }
}

/// The compactors as the shards of one generation see them.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) pool: Arc<Pool>,
    /// All but the order.
    pub(crate) task: CompactionTask,
}

impl Compactor for Orders {
    fn compact(
        &self,
        order: CompactionOrder,
    ) -> BoxFuture<'static, Result<CompactionResult, NotDone>> {
        let order = order.encode_to_vec();
        let task = CompactionTask { order, ..self.task.clone() };
        give(Arc::clone(&self.pool), task).boxed()
    }

    fn is_off(&self) -> bool {
        !self.pool.lock().wanted
    }

    fn done_here(&self, why: &str) {
        let mut known = self.pool.lock();
        known.here_at = Some(clock::now());
        known.counters.here += 1;
        known.counters.problem = why.to_owned();
    }
}

/// What came of asking one compactor.
enum Asked {
    Done(CompactionResult),
    /// It wrote nothing.
    Refused(String),
    /// It may have written something.
    GivenUp(String),
}

/// Gives a task to the first compactor that takes it.
async fn give(pool: Arc<Pool>, task: CompactionTask) -> Result<CompactionResult, NotDone> {
    let (mut asked, mut refused) = (Vec::new(), None);
    loop {
        let taken = match pool.pick(&asked) {
            Ok(taken) => taken,
            Err(why) => return Err(NotDone::NotTaken(refused.unwrap_or(why))),
        };
        asked.push(taken.address.clone());
        match ask(&pool, &taken.address, &task).await {
            Asked::Done(result) => {
                pool.lock().done();
                return Ok(result);
            }
            Asked::Refused(why) => {
                taken.rest();
                refused = Some(format!("compactor {}: {why}", taken.address));
            }
            Asked::GivenUp(why) => {
                taken.rest();
                pool.lock().counters.given_up += 1;
                return Err(NotDone::GivenUp(format!("compactor {}: {why}", taken.address)));
            }
        }
    }
}

async fn ask(pool: &Pool, address: &str, task: &CompactionTask) -> Asked {
    let mut link = match clock::timeout(DIAL_MAX, pool.network.compact(address)).await {
        Ok(Ok(link)) => link,
        Ok(Err(error)) => return Asked::Refused(error.reason),
        Err(_) => return Asked::Refused(format!("does not answer within {DIAL_MAX:?}")),
    };
    let message = ToCompactor { task: Some(task.clone()) };
    // The queue is new and has room.
    if link.send.try_send(message).is_err() {
        return Asked::Refused("the connection broke".to_owned());
    }
    match clock::timeout(TASK_MAX, follow(&mut link)).await {
        Ok(asked) => asked,
        Err(_) => Asked::GivenUp(format!("not done within {TASK_MAX:?}")),
    }
}

/// Waits for the end of a task.
async fn follow(link: &mut OrderLink) -> Asked {
    let mut moved_at = clock::now();
    let mut so_far = (false, 0);
    loop {
        let body = match clock::timeout(SILENT_MAX, link.receive.recv()).await {
            Ok(Some(message)) => message.body,
            Ok(None) => return Asked::GivenUp("the connection broke".to_owned()),
            Err(_) => return Asked::GivenUp(format!("silent for {SILENT_MAX:?}")),
        };
        match body {
            Some(Body::Result(result)) => {
                return match CompactionResult::decode(&result[..]) {
                    Ok(result) => Asked::Done(result),
                    Err(error) => Asked::GivenUp(format!("its answer cannot be read: {error}")),
                };
            }
            Some(Body::Refused(why)) => return Asked::Refused(why),
            Some(Body::Failed(why)) => return Asked::GivenUp(why),
            Some(Body::Pulse(pulse)) => {
                let now = clock::now();
                if (pulse.begun, pulse.entries) != so_far {
                    so_far = (pulse.begun, pulse.entries);
                    moved_at = now;
                }
                let (limit, what) = match pulse.begun {
                    true => (STALLED_MAX, "it stalls"),
                    false => (QUEUED_MAX, "it is behind"),
                };
                if now.saturating_duration_since(moved_at) >= limit {
                    return Asked::GivenUp(format!("{what}: nothing moved for {limit:?}"));
                }
            }
            // Of a newer compactor.
            None => {}
        }
    }
}
