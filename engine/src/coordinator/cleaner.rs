//! Deletions beside everything else: what the journal condemned, what workers report, sweeps.
//!
//! One chore at a time, each on a copy of the journal's state; that a copy is old does no harm (what
//! may go once may always go). A chore that fails is done by a later sweep.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use weir_runtime::task::{self, Task};
use weir_state::gc::{self, GcError, SinkFolders};
use weir_state::ids::Seq;
use weir_state::journal::Journal;

use super::tables::delete_outdated;

/// Chores that wait; further ones are left to the next sweep.
const CHORES_MAX: usize = 16;

/// Where sinks write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grounds {
    /// Folders by their URI.
    pub(crate) sinks: SinkFolders,
    /// Steps of `table` sinks, each with its folder's URI.
    pub(crate) tables: BTreeMap<String, String>,
}

/// Something to be deleted. Each has the journal as it was when the chore was given.
pub(crate) enum Chore {
    /// What records gave up.
    Condemned(Journal),
    /// State objects that a worker of the living generation reported.
    Unnamed(Journal, Vec<String>),
    /// What dead generations left.
    Sweep(Journal),
}

/// The task that deletes.
pub(crate) struct Cleaner {
    chores: Option<mpsc::Sender<Chore>>,
    done: mpsc::Receiver<Seq>,
    task: Task<()>,
}

impl Cleaner {
    pub(crate) fn start(grounds: Grounds) -> Self {
        let (chores, queue) = mpsc::channel(CHORES_MAX);
        let (report, done) = mpsc::channel(CHORES_MAX);
        Self { chores: Some(chores), done, task: task::spawn(run(queue, report, grounds)) }
    }

    /// Gives a chore; when too many wait, a later sweep does it.
    pub(crate) fn give(&self, chore: Chore) {
        if let Some(chores) = &self.chores
            && chores.try_send(chore).is_err()
        {
            tracing::debug!("too many deletions wait; the next sweep will see to this one");
        }
    }

    /// Waits until everything that was condemned up to a record is deleted. Cancel safe.
    pub(crate) async fn deleted(&mut self) -> Seq {
        match self.done.recv().await {
            Some(through) => through,
            None => std::future::pending().await,
        }
    }

    /// Does the chores that wait and ends.
    pub(crate) async fn finish(mut self) {
        self.chores = None;
        let drained = async { while self.done.recv().await.is_some() {} };
        drained.await;
        if let Err(error) = self.task.await {
            tracing::error!("bug in Weir: deleting: {error}");
        }
    }
}

async fn run(mut queue: mpsc::Receiver<Chore>, report: mpsc::Sender<Seq>, grounds: Grounds) {
    while let Some(chore) = queue.recv().await {
        match execute(chore, &grounds).await {
            Ok(Some(through)) => {
                // Nobody waits for it: the next run notes it.
                let _ = report.send(through).await;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!("not deleted yet: {error}"),
        }
    }
}

/// Deletes what `journal` condemned and what dead generations left. What fails is logged, and left
/// to a later time.
pub(crate) async fn clean_up(journal: &Journal, grounds: &Grounds) {
    for chore in [Chore::Condemned(journal.reader()), Chore::Sweep(journal.reader())] {
        if let Err(error) = execute(chore, grounds).await {
            tracing::warn!("not deleted yet: {error}");
        }
    }
}

async fn execute(chore: Chore, grounds: &Grounds) -> Result<Option<Seq>, GcError> {
    let Grounds { sinks, tables } = grounds;
    match chore {
        Chore::Condemned(journal) => {
            // A snapshot's staged parts are condemned when all are visible: the older ones go too.
            delete_outdated(&journal, tables, sinks).await?;
            gc::delete_condemned(&journal, sinks).await
        }
        Chore::Unnamed(journal, names) => {
            gc::delete_unnamed(&journal, &names).await?;
            Ok(None)
        }
        Chore::Sweep(journal) => {
            let report = gc::sweep(&journal, sinks).await?;
            tracing::info!(seen = report.seen, gone = report.gone().count(), "swept");
            Ok(None)
        }
    }
}
