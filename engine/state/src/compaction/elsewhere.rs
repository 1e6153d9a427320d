//! From a compaction to its outputs: in another process if there is one that takes it, else here.
//!
//! What must stay true: an attempt that may have written something and is given up is cleaned up by
//! name; its outputs are never installed later.

use std::fmt;

use futures::future::BoxFuture;
use tokio::sync::Notify;

use super::{Compaction, CompactionOrder, CompactionResult, Merged, execute};
use crate::error::StateError;
use crate::output::{Naming, Writer};
use crate::version::{Version, View};

/// How often an order is given to another process before the worker carries it out itself.
const ATTEMPTS_MAX: u32 = 2;

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// Nobody was given it.
    #[error("nobody takes it: {0}")]
    NotTaken(String),
    /// Somebody was given it, and may have written a part of it.
    #[error("{0}")]
    GivenUp(String),
}

/// Carries out orders in other processes.
pub trait Compactor: fmt::Debug + Send + Sync {
    /// Has an order carried out. The future ends within a time that the implementation knows;
    /// dropping it gives the order up.
    fn compact(
        &self,
        order: CompactionOrder,
    ) -> BoxFuture<'static, Result<CompactionResult, NotDone>>;
    /// The orders are not wanted: all that is due is done here, and nothing is amiss.
    fn is_off(&self) -> bool;
    /// A compaction that nobody else has carried out is done in this process, and why.
    fn done_here(&self, why: &str);
}

/// Carries out a compaction of `version`, wherever; here from when `hurry` is notified, since somebody
/// waits for it.
///
/// Errors: as of reading and writing in this process. Whatever goes wrong in another one is made good
/// here.
pub(crate) async fn compact(
    compaction: &Compaction,
    version: &Version,
    writer: Writer,
    hurry: &Notify,
) -> Result<Vec<View>, StateError> {
    let mut given = None;
    let outputs = tokio::select! {
        biased;
        outputs = elsewhere(compaction, version, &writer, &mut given) => outputs,
        () = hurry.notified() => None,
    };
    if let Some(outputs) = outputs {
        return Ok(outputs);
    }
    if let Some(order) = given {
        give_up(&order, "writers wait for it", &writer);
        writer.store.compactor().iter().for_each(|its| its.done_here("writers waited for them"));
    }
    execute::execute(compaction, version, writer, &Merged::default()).await
}

/// Whatever was written for the order, nobody needs it.
fn give_up(order: &CompactionOrder, why: &str, writer: &Writer) {
    tracing::warn!("compaction {} is given up: {why}", order.name());
    order.names().all().for_each(|name| writer.obsolete.add(name));
}

async fn elsewhere(
    compaction: &Compaction,
    version: &Version,
    writer: &Writer,
    given: &mut Option<CompactionOrder>,
) -> Option<Vec<View>> {
    let compactor = writer.store.compactor().filter(|compactor| !compactor.is_off())?;
    let Naming::Own(namer) = &writer.naming else { return None };
    let mut order = CompactionOrder::new(compaction, version, namer, writer.cut)?;
    loop {
        let problem;
        *given = Some(order.clone());
        let done = compactor.compact(order.clone()).await;
        *given = None;
        match done {
            Ok(result) => match order.accept(compaction, version, &result, &writer.obsolete) {
                Ok(outputs) => return Some(outputs),
                Err(refused) => problem = format!("its result is refused: {refused}"),
            },
            Err(NotDone::NotTaken(why)) => {
                compactor.done_here(&why);
                return None;
            }
            Err(NotDone::GivenUp(why)) => problem = why,
        }
        give_up(&order, &problem, writer);
        order = order.again();
        if order.attempt >= ATTEMPTS_MAX {
            compactor.done_here(&problem);
            return None;
        }
    }
}
