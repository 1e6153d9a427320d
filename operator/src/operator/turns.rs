//! Turns: how many jobs begin at the same time. An operator that takes over a thousand asks the API
//! server and the stores for some of them at a time, so that its leases are renewed meanwhile.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use weir_runtime::clock;

/// Jobs that begin at the same time.
const TURNS: usize = 16;
/// Whoever takes longer waits for somebody, and lets others begin.
const TURN_MAX: Duration = Duration::from_secs(2);

/// Shared by all who begin.
#[derive(Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TURNS)))
    }
}

impl Turns {
    /// Does it when it is its turn.
    pub(crate) async fn take<T>(&self, work: impl Future<Output = T>) -> T {
        let turn = self.0.acquire().await;
        let mut work = pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = clock::sleep(TURN_MAX) => drop(turn),
        }
        work.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use weir_runtime::task;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_begin_at_the_same_time_and_no_more() {
        let (turns, there, most) =
            (Turns::default(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let all = (0..10 * TURNS).map(|_| {
            let (turns, there, most) = (turns.clone(), Arc::clone(&there), Arc::clone(&most));
            task::spawn(async move {
                let begin = async {
                    most.fetch_max(there.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    clock::sleep(Duration::from_millis(100)).await;
                    there.fetch_sub(1, Ordering::SeqCst);
                };
                turns.take(begin).await;
            })
        });
        let all: Vec<_> = all.collect();
        clock::sleep(Duration::from_secs(2)).await;
        assert_eq!(most.load(Ordering::SeqCst), TURNS);
        assert_eq!(turns.0.available_permits(), TURNS, "all have begun");
        drop(all);
    }

    #[tokio::test(start_paused = true)]
    async fn stores_that_do_not_answer_keep_nobody_waiting() {
        let turns = Turns::default();
        let stuck = (0..TURNS).map(|_| {
            let turns = turns.clone();
            task::spawn(async move { turns.take(std::future::pending::<()>()).await })
        });
        let stuck: Vec<_> = stuck.collect();
        clock::sleep(Duration::from_millis(1)).await;
        let began = clock::now();
        turns.take(async {}).await;
        let waited = clock::now() - began;
        assert!(waited > TURN_MAX / 2 && waited <= TURN_MAX, "{waited:?}");
        drop(stuck);
    }
}
