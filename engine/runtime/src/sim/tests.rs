//! The kernel: time moves only when nothing else can run, a kill ends a process, a seed repeats.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::{clock, random, task};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn time_passes_without_waiting_and_clocks_may_be_wrong() {
    let output = run(1, async {
        let (start, wall) = (clock::now(), clock::wall_ms());
        clock::sleep(86_400 * SECOND).await;
        assert_eq!(start.elapsed(), 86_400 * SECOND);
        assert_eq!(clock::wall_ms() - wall, 86_400_000);
        let skewed = Process::new("skewed", -600_000).spawn(async { clock::wall_ms() });
        skewed.await.unwrap() - clock::wall_ms()
    });
    assert_eq!(output, -600_000);
    assert!(!is_active());
}

#[test]
fn a_kill_ends_all_tasks_of_a_process_and_of_no_other() {
    run(2, async {
        let count = Arc::new(AtomicU64::new(0));
        let tick = |count: &Arc<AtomicU64>| {
            let count = Arc::clone(count);
            async move {
                loop {
                    clock::sleep(SECOND).await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let (victim, other) = (Process::new("victim", 0), Process::new("other", 0));
        let child = tick(&count);
        let parent = victim.spawn(async move {
            // A task spawned by a task is of the same process.
            task::spawn(child).detach();
            std::future::pending::<()>().await;
        });
        clock::sleep(SECOND * 10 + SECOND / 2).await;
        assert_eq!(count.load(Ordering::Relaxed), 10);
        let survivor = Arc::new(AtomicU64::new(0));
        drop(other.spawn(tick(&survivor)));
        victim.kill();
        assert!(victim.is_killed() && !other.is_killed());
        assert!(parent.await.unwrap_err().is_cancelled());
        let late = victim.spawn(async { unreachable!("a killed process runs nothing") });
        clock::sleep(SECOND * 5 + SECOND / 2).await;
        assert!(late.is_finished());
        assert_eq!(count.load(Ordering::Relaxed), 10);
        assert_eq!(survivor.load(Ordering::Relaxed), 5);
    });
}

#[test]
fn a_panic_surfaces_where_its_task_is_joined() {
    run(3, async {
        let task = task::spawn(async { panic!("with these words") });
        let error: Result<(), _> = task.await;
        assert_eq!(error.unwrap_err().to_string(), "task panicked: with these words");
        assert_eq!(task::blocking(|| 7).await.unwrap(), 7);
    });
}

#[test]
fn a_dropped_task_is_aborted_and_a_detached_one_runs_on() {
    run(4, async {
        let done = Arc::new(AtomicU64::new(0));
        let add = |amount| {
            let done = Arc::clone(&done);
            task::spawn(async move {
                clock::sleep(SECOND).await;
                done.fetch_add(amount, Ordering::Relaxed);
            })
        };
        drop(add(1));
        add(10).detach();
        clock::sleep(SECOND * 2).await;
        assert_eq!(done.load(Ordering::Relaxed), 10);
    });
}

/// In which order tasks that are all ready get to run, with a random number each.
fn order(seed: u64) -> Vec<(u64, u64)> {
    run(seed, async {
        let order = Arc::new(Mutex::new(Vec::new()));
        let racer = |number| {
            let order = Arc::clone(&order);
            task::spawn(async move {
                clock::sleep(Duration::from_millis(random::below(3))).await;
                tokio::select! {
                    () = std::future::ready(()) => {}
                    () = tokio::task::yield_now() => {}
                }
                order.lock().unwrap().push((number, random::u64()));
            })
        };
        futures::future::join_all((0..20).map(racer)).await;
        let order = order.lock().unwrap();
        order.clone()
    })
}

#[test]
fn a_seed_repeats_its_order_and_numbers_and_seeds_differ() {
    assert_eq!(order(5), order(5));
    assert_ne!(order(5), order(6));
}
