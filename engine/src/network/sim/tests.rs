//! The simulated network does what its faults say, the same way each time.

use weir_runtime::clock::Instant;
use weir_runtime::{sim, task};

use super::*;
use crate::network::{SenderLink, WorkerLink};
use crate::protocol::{Heartbeat, ToCoordinator, ToWorker, to_coordinator, to_worker};

fn ping(number: u64) -> ToWorker {
    let body = Some(to_worker::Body::Heartbeat(Heartbeat { number }));
    ToWorker { term: 1, generation: 0, body }
}

fn number(message: &ToCoordinator) -> u64 {
    match &message.body {
        Some(to_coordinator::Body::Heartbeat(heartbeat)) => heartbeat.number,
        other => panic!("{other:?}"),
    }
}

/// Answers every heartbeat with its number.
struct Echo;

impl WorkerService for Echo {
    fn control(&self, mut link: WorkerLink) {
        let echo = async move {
            while let Some(ToWorker { body: Some(to_worker::Body::Heartbeat(heartbeat)), .. }) =
                link.receive.recv().await
            {
                let body = Some(to_coordinator::Body::Heartbeat(heartbeat));
                if link.send.send(ToCoordinator { generation: 0, body }).await.is_err() {
                    return;
                }
            }
        };
        task::spawn(echo).detach();
    }

    fn channel(&self, _open: OpenChannel, _link: SenderLink) {}
}

async fn served(network: &SimNetwork, process: &Process) -> Serving {
    let network = network.clone();
    process.spawn(async move { network.serve(Arc::new(Echo)).await.unwrap() }).await.unwrap()
}

/// Numbers of the answers to 50 heartbeats and when each came.
async fn talk(network: &SimNetwork, address: &str) -> Vec<(u64, Duration)> {
    let start: Instant = clock::now();
    let mut link = network.control(address).await.unwrap();
    let send = link.send.clone();
    let sending = task::spawn(async move {
        for n in 0..50 {
            if send.send(ping(n)).await.is_err() {
                return;
            }
        }
    });
    let mut answers = Vec::new();
    while answers.len() < 50 {
        match link.receive.recv().await {
            Some(answer) => answers.push((number(&answer), clock::now() - start)),
            None => break,
        }
    }
    drop(sending);
    answers
}

#[test]
fn messages_arrive_in_order_after_delays_and_twice_if_told() {
    let run = |seed| {
        sim::run(seed, async {
            let faults = NetworkFaults {
                refuse_dial_per_million: 0,
                break_per_million: 0,
                duplicate_control_per_million: 200_000,
                ..NetworkFaults::rough()
            };
            let network = SimNetwork::new(faults);
            let serving = served(&network, &Process::new("w", 0)).await;
            let answers = talk(&network, &serving.address).await;
            (answers, network.counters())
        })
    };
    let (answers, counters) = run(1);
    assert!(answers.is_sorted_by_key(|(number, _)| *number));
    assert!(answers.windows(2).any(|pair| pair[0].0 == pair[1].0), "none came twice");
    assert!(counters.duplicated > 0 && counters.lost == 0, "{counters:?}");
    assert_eq!(run(1), (answers.clone(), counters), "a seed repeats");
    assert_ne!(run(2).0, answers, "seeds differ");
}

#[test]
fn an_address_that_nobody_serves_is_refused() {
    sim::run(1, async {
        let network = SimNetwork::new(NetworkFaults::none());
        let serving = served(&network, &Process::new("w", 0)).await;
        let address = serving.address.clone();
        let mut link = network.control(&address).await.unwrap();
        drop(serving);
        assert!(link.receive.recv().await.is_none(), "calls end with the service");
        let error = network.control(&address).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot reach worker sim:1: connection refused");
        assert_eq!(network.counters().refused, 1);
    });
}

#[test]
fn what_a_cut_off_address_is_sent_waits_until_it_is_joined_again() {
    sim::run(1, async {
        let network = SimNetwork::new(NetworkFaults::none());
        let serving = served(&network, &Process::new("w", 0)).await;
        let mut link = network.control(&serving.address).await.unwrap();
        network.cut_off(&serving.address);
        link.send.send(ping(7)).await.unwrap();
        let nothing = clock::timeout(Duration::from_secs(9), link.receive.recv()).await;
        assert!(nothing.is_err());
        let error = network.control(&serving.address).await.unwrap_err();
        assert!(error.to_string().contains("timed out"), "{error}");
        network.join_again(&serving.address);
        assert_eq!(number(&link.receive.recv().await.unwrap()), 7);
    });
}

#[test]
fn two_that_are_parted_reach_others_and_not_each_other() {
    sim::run(1, async {
        let network = SimNetwork::new(NetworkFaults::none());
        let processes = [Process::new("a", 0), Process::new("b", 0)];
        let (a, b) = (served(&network, &processes[0]).await, served(&network, &processes[1]).await);
        let (other, to) = (network.clone(), b.address.clone());
        let dialled = processes[0].spawn(async move { other.control(&to).await.unwrap() });
        let mut link = dialled.await.unwrap();
        network.part(&b.address, &a.address);
        link.send.send(ping(7)).await.unwrap();
        let nothing = clock::timeout(Duration::from_secs(9), link.receive.recv()).await;
        assert!(nothing.is_err());
        // Somebody else reaches both.
        for address in [&a.address, &b.address] {
            assert_eq!(talk(&network, address).await.len(), 50);
        }
        network.unite(&a.address, &b.address);
        assert_eq!(number(&link.receive.recv().await.unwrap()), 7);
        network.break_between(&a.address, &b.address);
        assert!(link.receive.recv().await.is_none(), "it is broken");
    });
}

#[test]
fn a_broken_call_closes_both_queues_and_loses_what_is_in_flight() {
    sim::run(1, async {
        let network = SimNetwork::new(NetworkFaults::none());
        let serving = served(&network, &Process::new("w", 0)).await;
        let mut link = network.control(&serving.address).await.unwrap();
        link.send.send(ping(1)).await.unwrap();
        tokio::task::yield_now().await;
        network.break_calls(&serving.address);
        assert!(link.receive.recv().await.is_none());
        link.send.closed().await;
        assert_eq!(network.counters().lost, 1);
    });
}

/// The `n`-th send kills the sender, before the message left it or after.
#[test]
fn planned_crashes_hit_the_sender() {
    for (crash, arrives) in [(Crash::BeforeSend, false), (Crash::AfterSend, true)] {
        let any = (0..20).filter(|seed| {
            sim::run(*seed, async {
                let network = SimNetwork::new(NetworkFaults::none());
                let worker = Process::new("w", 0);
                let serving = served(&network, &worker).await;
                // Sends 1, 2: question and answer; 3, 4: the same again.
                network.crash_at(4, crash);
                let mut link = network.control(&serving.address).await.unwrap();
                link.send.send(ping(1)).await.unwrap();
                assert_eq!(number(&link.receive.recv().await.unwrap()), 1);
                link.send.send(ping(2)).await.unwrap();
                let answer = link.receive.recv().await;
                assert!(worker.is_killed());
                assert_eq!(network.counters().crashes, 1);
                assert!(network.control(&serving.address).await.is_err());
                // What was sent before a death may still be lost on the way.
                answer.is_some()
            })
        });
        assert_eq!(any.count() > 0, arrives, "{crash:?}");
    }
}

#[test]
fn calls_of_a_killed_process_break_or_hang_silently() {
    for silent in [false, true] {
        sim::run(1, async {
            let network = SimNetwork::new(NetworkFaults {
                silent_per_million: if silent { 1_000_000 } else { 0 },
                ..NetworkFaults::none()
            });
            let worker = Process::new("w", 0);
            let serving = served(&network, &worker).await;
            let mut link = network.control(&serving.address).await.unwrap();
            link.send.send(ping(1)).await.unwrap();
            link.receive.recv().await.unwrap();
            worker.kill();
            let end = clock::timeout(Duration::from_secs(60), link.receive.recv()).await;
            assert_eq!(end.is_err(), silent, "{end:?}");
            // A sender to a silent process is not told, either.
            let sent = link.send.send(ping(2)).await;
            assert_eq!(sent.is_ok(), silent);
        });
    }
}
