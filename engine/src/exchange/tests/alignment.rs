//! Blocked channels: alignment under back-pressure, without deadlock.

use super::*;

#[test]
fn a_blocked_channel_is_not_read_and_others_are() {
    sim::run(1, async {
        let network = SimNetwork::new(NetworkFaults::none());
        let a = Worker::start(&network, "a").await;
        let mut gate = a.gate(0, 0, &[&a, &a]).await;
        let mut first = a.output(0, 0, 1).await;
        let mut second = a.output(1, 0, 1).await;
        first.broadcast(Message::Barrier(CheckpointId(1))).await.unwrap();
        first.broadcast(Message::Watermark(7)).await.unwrap();
        first.flush().await.unwrap();
        let (input, message) = gate.next().await.unwrap();
        assert!(matches!((input, message), (0, Message::Barrier(CheckpointId(1)))));
        gate.block(0);
        assert!(!gate.is_ready());
        second.broadcast(Message::Barrier(CheckpointId(1))).await.unwrap();
        assert_eq!(gate.next().await.unwrap().0, 1);
        gate.block(1);
        let nothing = clock::timeout(Duration::from_secs(1), gate.next()).await;
        assert!(nothing.is_err());
        gate.unblock_all();
        assert!(matches!(gate.next().await.unwrap(), (0, Message::Watermark(7))));
    });
}

/// A source: batches as fast as credit allows, a barrier every 20 batches, then the end.
async fn source(mut output: OutputChannels, number: i64) -> OutputChannels {
    for batch in 0..100 {
        output.send(rows(number, batch * 700..(batch + 1) * 700, 97)).await.unwrap();
        if batch % 20 == 19 {
            let checkpoint = CheckpointId(batch as u64 / 20 + 1);
            output.broadcast(Message::Barrier(checkpoint)).await.unwrap();
        }
        if number == 1 {
            // One source is slower, so the other runs into blocked channels.
            clock::sleep(Duration::from_millis(random::below(8))).await;
        }
    }
    output.broadcast(Message::End).await.unwrap();
    output
}

/// A stage that aligns its inputs and passes everything on, slowly.
async fn relay(mut gate: InputGate, mut output: Option<OutputChannels>) -> Vec<(u64, usize)> {
    let inputs = gate.inputs().len();
    let (mut ends, mut barriers, mut count) = (0, 0, 0);
    let mut cuts = Vec::new();
    while ends < inputs {
        let (input, message) = gate.next().await.unwrap();
        match message {
            Message::Rows(rows) => {
                count += rows.len();
                if let Some(output) = &mut output {
                    output.send(rows).await.unwrap();
                }
                clock::sleep(Duration::from_millis(random::below(3))).await;
            }
            Message::Barrier(checkpoint) => {
                gate.block(input);
                barriers += 1;
                if barriers == inputs {
                    cuts.push((checkpoint.0, count));
                    if let Some(output) = &mut output {
                        output.broadcast(Message::Barrier(checkpoint)).await.unwrap();
                    }
                    barriers = 0;
                    gate.unblock_all();
                }
            }
            Message::End => {
                ends += 1;
            }
            Message::Progress(_) | Message::Watermark(_) => {}
        }
    }
    if let Some(output) = &mut output {
        output.broadcast(Message::End).await.unwrap();
        // As a real stage, stay until told to stop.
        clock::sleep(Duration::from_secs(3600)).await;
    }
    cuts
}

/// Sources → middle stage → last stage, which also reads the sources: a diamond. Every cut of the
/// last stage holds exactly what was sent before the barrier, over both ways.
#[test]
fn a_diamond_aligns_without_deadlock() {
    for seed in 0..15 {
        sim::run(seed, async {
            let network = SimNetwork::new(NetworkFaults::none());
            let workers = [Worker::start(&network, "a").await, Worker::start(&network, "b").await];
            let both = [&workers[0], &workers[1]];
            let mut middle_gates = Vec::new();
            let mut last_gates = Vec::new();
            for (index, worker) in (0..).zip(&workers) {
                middle_gates.push(worker.gate(index, 0, &both).await);
                last_gates.push(last_gate(worker, index, &both).await);
            }
            let mut tasks = Vec::new();
            for (index, worker) in (0..).zip(&workers) {
                let (short, long) = (worker.output(index, 0, 2), worker.output(index, 1, 2));
                let (short, long) = (short.await, long.await);
                tasks.push(task::spawn(two_ways(short, long, index.into())));
            }
            let mut relays = Vec::new();
            for (index, gate) in (0..).zip(middle_gates) {
                let output = workers[index as usize].output(index, 2, 2).await;
                relays.push(task::spawn(relay(gate, Some(output))));
            }
            let lasts: Vec<_> =
                last_gates.into_iter().map(|gate| task::spawn(relay(gate, None))).collect();
            let mut totals = [0; 5];
            for last in lasts {
                let cuts = clock::timeout(Duration::from_secs(600), last).await;
                let cuts = cuts.expect("no deadlock").unwrap();
                for (total, (_, count)) in totals.iter_mut().zip(&cuts) {
                    *total += count;
                }
                assert_eq!(cuts.iter().map(|cut| cut.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
            }
            // 20 batches of 700 rows, two sources, two ways, per checkpoint.
            assert_eq!(totals, [1, 2, 3, 4, 5].map(|n| n * 20 * 700 * 2 * 2), "seed {seed}");
        });
    }
}

async fn last_gate(worker: &Worker, to: u32, sources: &[&Worker]) -> InputGate {
    let input = |edge| {
        move |(from, source): (u32, &&Worker)| Input {
            edge,
            from,
            address: (source.address != worker.address).then(|| source.address.clone()),
            schema: schema(),
        }
    };
    let direct = (0..).zip(sources).map(input(1));
    let inputs = direct.chain((0..).zip(sources).map(input(2))).collect();
    InputGate::open(&worker.network, &worker.registry, Generation(1), to, inputs).await.unwrap()
}

async fn two_ways(mut short: OutputChannels, mut long: OutputChannels, number: i64) {
    for batch in 0..100 {
        short.send(rows(number, batch * 700..(batch + 1) * 700, 97)).await.unwrap();
        long.send(rows(number, batch * 700..(batch + 1) * 700, 97)).await.unwrap();
        if batch % 20 == 19 {
            let barrier = Message::Barrier(CheckpointId(batch as u64 / 20 + 1));
            short.broadcast(barrier.clone()).await.unwrap();
            long.broadcast(barrier).await.unwrap();
        }
        if number == 1 {
            clock::sleep(Duration::from_millis(random::below(8))).await;
        }
    }
    short.broadcast(Message::End).await.unwrap();
    long.broadcast(Message::End).await.unwrap();
    clock::sleep(Duration::from_secs(3600)).await;
}

/// While one channel is blocked for long, its sender is stopped by credit and goes on afterwards.
#[test]
fn a_long_alignment_stops_the_sender_and_lets_it_go_on() {
    sim::run(3, async {
        let network = SimNetwork::new(NetworkFaults::none());
        let pair = Pair::start(&network).await;
        let Pair { workers: _workers, gates, outputs } = pair;
        let senders: Vec<_> = (0..)
            .zip(outputs)
            .map(|(number, output)| task::spawn(source(output, number)))
            .collect();
        let readers: Vec<_> =
            gates.into_iter().map(|gate| task::spawn(relay(gate, None))).collect();
        let mut total = 0;
        for reader in readers {
            let cuts = clock::timeout(Duration::from_secs(600), reader).await;
            total += cuts.expect("no deadlock").unwrap().last().unwrap().1;
        }
        assert_eq!(total, 2 * 100 * 700);
        for sender in senders {
            sender.await.unwrap();
        }
    });
}
