//! Rows reach the subtask that owns their key, once and in order, within credit.

use super::*;

/// Sends `total` rows in batches of random sizes, a barrier now and then, then the end.
async fn send_all(mut output: OutputChannels, source: i64, total: i64) -> OutputChannels {
    let mut sent = 0;
    let mut checkpoint = 0;
    while sent < total {
        let count = (1 + random::below(3000) as i64).min(total - sent);
        output.send(rows(source, sent..sent + count, 97)).await.unwrap();
        sent += count;
        output.broadcast(Message::Progress(progress(source as u64, sent))).await.unwrap();
        if sent / 10_000 > checkpoint {
            checkpoint += 1;
            let barrier = Message::Barrier(CheckpointId(checkpoint as u64));
            output.broadcast(barrier).await.unwrap();
        }
        if random::below(4) == 0 {
            output.flush().await.unwrap();
            clock::sleep(Duration::from_millis(random::below(5))).await;
        }
    }
    output.broadcast(Message::End).await.unwrap();
    output
}

/// Reads until both ends, at a random pace, and checks every channel; gives the rows by source.
async fn read_all(mut gate: InputGate, subtask: u32) -> [Vec<i64>; 2] {
    let owners: Vec<u32> = (0..97).map(|key| owner(key, 2)).collect();
    let owner = |number: i64| owners[(number % 97) as usize];
    let mut numbers = [Vec::new(), Vec::new()];
    let mut barriers = [0, 0];
    let mut ends = 0;
    while ends < 2 {
        let (input, message) = gate.next().await.unwrap();
        match message {
            Message::Rows(rows) => {
                assert!(column(&rows, 0).iter().all(|key| owner(*key) == subtask));
                assert!(column(&rows, 1).iter().all(|source| *source == input as i64));
                numbers[input].extend(column(&rows, 2));
                if random::below(3) == 0 {
                    clock::sleep(Duration::from_millis(random::below(20))).await;
                }
            }
            Message::Progress(progress) => {
                // All rows that the progress speaks of and that come here are here.
                let known = progress.splits[0].max_time_ms;
                let last = (0..known).rev().find(|number| owner(*number) == subtask);
                assert!(numbers[input].last().copied() >= last, "progress overtook rows");
            }
            Message::Barrier(checkpoint) => {
                barriers[input] += 1;
                assert_eq!(checkpoint.0, barriers[input]);
            }
            Message::End => ends += 1,
            Message::Watermark(_) => panic!("no one sends watermarks here"),
        }
    }
    numbers
}

#[test]
fn rows_arrive_once_in_order_at_the_owner_of_their_key() {
    for seed in 0..20 {
        sim::run(seed, async {
            let network = SimNetwork::new(NetworkFaults {
                refuse_dial_per_million: 0,
                break_per_million: 0,
                ..NetworkFaults::rough()
            });
            let Pair { workers: _workers, gates, outputs } = Pair::start(&network).await;
            let total = 30_000;
            let senders: Vec<_> = (0..)
                .zip(outputs)
                .map(|(source, output)| task::spawn(send_all(output, source, total)))
                .collect();
            let readers: Vec<_> = (0..)
                .zip(gates)
                .map(|(subtask, gate)| task::spawn(read_all(gate, subtask)))
                .collect();
            let owners: Vec<u32> = (0..97).map(|key| owner(key, 2)).collect();
            for (subtask, reader) in (0..).zip(readers) {
                let mine = |number: &i64| owners[(number % 97) as usize] == subtask;
                let expected: Vec<i64> = (0..total).filter(mine).collect();
                for numbers in reader.await.unwrap() {
                    assert_eq!(numbers, expected, "seed {seed}");
                }
            }
            for sender in senders {
                sender.await.unwrap();
            }
        });
    }
}

/// Nobody reads: what the sender gets rid of is within the window; then it waits.
#[test]
fn a_sender_stops_at_the_window() {
    sim::run(1, async {
        let network = SimNetwork::new(NetworkFaults::none());
        let mut pair = Pair::start(&network).await;
        let output = pair.outputs.remove(0);
        let sending = task::spawn(async move {
            let mut output = output;
            for batch in 0..200 {
                output.send(rows(0, batch * 500..(batch + 1) * 500, 97)).await.unwrap();
                output.flush().await.unwrap();
            }
            output
        });
        clock::sleep(Duration::from_secs(5)).await;
        assert!(!sending.is_finished());
        for gate in &pair.gates {
            let got = gate.inbox_rows(0);
            assert!(got > 0 && got <= WINDOW_START.rows, "{got} rows on their way");
        }
        let gates = std::mem::take(&mut pair.gates);
        let readers: Vec<_> = gates
            .into_iter()
            .map(|mut gate| task::spawn(async move { while gate.next().await.is_ok() {} }))
            .collect();
        sending.await.unwrap();
        drop(readers);
    });
}

#[test]
fn a_batch_larger_than_the_window_passes_alone() {
    for local in [true, false] {
        sim::run(2, async {
            let network = SimNetwork::new(NetworkFaults::none());
            let a = Worker::start(&network, "a").await;
            let b = Worker::start(&network, "b").await;
            let reader = if local { &a } else { &b };
            let mut gate = reader.gate(0, 0, &[&a]).await;
            let mut output = a.output(0, 0, 1).await;
            // Wide rows: one batch of them is beyond the window's bytes, and can't be cut to fit.
            let wide = |n: i64| {
                let text = "x".repeat(3 << 20);
                let column = Arc::new(arrow::array::StringArray::from(vec![text.as_str()])) as _;
                let rows = rows(0, n..n + 1, 97);
                let mut fields = schema().fields().to_vec();
                fields.push(Arc::new(Field::new("wide", DataType::Utf8, false)));
                let mut columns = rows.batch.columns().to_vec();
                columns.push(column);
                rows.with_columns(Arc::new(Schema::new(fields)), columns).unwrap()
            };
            if !local {
                // The gate was opened for narrow rows; open one for wide ones.
                drop(gate);
                let input = Input {
                    edge: 1,
                    from: 0,
                    address: Some(a.address.clone()),
                    schema: wide(0).batch.schema(),
                };
                let generation = Generation(1);
                gate = InputGate::open(&b.network, &b.registry, generation, 0, vec![input])
                    .await
                    .unwrap();
                output = a.output(0, 1, 1).await;
            }
            let sending = task::spawn(async move {
                for n in 0..3 {
                    output.send(wide(n)).await.unwrap();
                    output.flush().await.unwrap();
                }
                output.broadcast(Message::End).await.unwrap();
                output
            });
            clock::sleep(Duration::from_secs(1)).await;
            assert_eq!(gate.inbox_rows(0), 1, "one at a time");
            for n in 0..3 {
                let (_, Message::Rows(rows)) = gate.next().await.unwrap() else { panic!() };
                assert_eq!(column(&rows, 2), [n]);
            }
            assert!(matches!(gate.next().await.unwrap(), (0, Message::End)));
            sending.await.unwrap();
        });
    }
}

#[test]
fn small_batches_travel_together() {
    sim::run(3, async {
        let network = SimNetwork::new(NetworkFaults::none());
        let a = Worker::start(&network, "a").await;
        let mut gate = a.gate(0, 0, &[&a]).await;
        let mut output = a.output(0, 0, 1).await;
        for n in 0..100 {
            output.send(rows(0, n..n + 1, 97)).await.unwrap();
            output.broadcast(Message::Progress(progress(0, n))).await.unwrap();
        }
        assert!(!gate.is_ready());
        assert_eq!(output.flush_at(), Some(clock::now() + FLUSH_AFTER));
        output.flush().await.unwrap();
        assert_eq!(output.flush_at(), None);
        let (_, Message::Rows(rows)) = gate.next().await.unwrap() else { panic!() };
        assert_eq!(rows.len(), 100);
        let (_, Message::Progress(last)) = gate.next().await.unwrap() else { panic!() };
        assert_eq!(last.splits[0].max_time_ms, 99);
        assert!(!gate.is_ready());
    });
}

/// A barrier takes along what waits, and nothing merges across it.
#[test]
fn a_barrier_flushes_and_separates() {
    sim::run(4, async {
        let network = SimNetwork::new(NetworkFaults::none());
        let a = Worker::start(&network, "a").await;
        let mut gate = a.gate(0, 0, &[&a]).await;
        let mut output = a.output(0, 0, 1).await;
        output.send(rows(0, 0..5, 97)).await.unwrap();
        output.broadcast(Message::Watermark(1)).await.unwrap();
        output.broadcast(Message::Watermark(2)).await.unwrap();
        output.broadcast(Message::Barrier(CheckpointId(1))).await.unwrap();
        output.broadcast(Message::Watermark(3)).await.unwrap();
        output.broadcast(Message::End).await.unwrap();
        let mut seen = Vec::new();
        while gate.is_ready() {
            seen.push(match gate.next().await.unwrap().1 {
                Message::Rows(rows) => format!("{} rows", rows.len()),
                Message::Watermark(ms) => format!("W{ms}"),
                Message::Barrier(id) => format!("B{id}"),
                Message::End => "end".to_owned(),
                Message::Progress(_) => "progress".to_owned(),
            });
        }
        assert_eq!(seen, ["5 rows", "W2", "B1", "W3", "end"]);
    });
}

/// `next` in a `select!` that is dropped again and again loses nothing.
#[test]
fn a_dropped_next_loses_nothing() {
    sim::run(5, async {
        let network = SimNetwork::new(NetworkFaults::none());
        let a = Worker::start(&network, "a").await;
        let b = Worker::start(&network, "b").await;
        let mut gate = b.gate(0, 0, &[&a]).await;
        let output = a.output(0, 0, 1).await;
        let sender = task::spawn(send_all(output, 0, 20_000));
        let mut numbers = Vec::new();
        loop {
            tokio::select! {
                next = gate.next() => match next.unwrap().1 {
                    Message::Rows(rows) => numbers.extend(column(&rows, 2)),
                    Message::End => break,
                    _ => {}
                },
                () = clock::sleep(Duration::from_micros(random::below(300))) => {}
                () = std::future::ready(()), if random::below(2) == 0 => {}
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(numbers, (0..20_000).collect::<Vec<_>>());
        sender.await.unwrap();
    });
}

/// A channel with much to say does not starve one with little.
#[test]
fn channels_take_turns() {
    sim::run(6, async {
        let network = SimNetwork::new(NetworkFaults::none());
        let a = Worker::start(&network, "a").await;
        let mut gate = a.gate(0, 0, &[&a, &a]).await;
        let mut loud = a.output(0, 0, 1).await;
        let mut quiet = a.output(1, 0, 1).await;
        for n in 0..50 {
            loud.send(rows(0, n..n + 1, 97)).await.unwrap();
            loud.flush().await.unwrap();
        }
        quiet.broadcast(Message::Barrier(CheckpointId(1))).await.unwrap();
        let mut order: BTreeMap<usize, usize> = BTreeMap::new();
        for turn in 0..4 {
            order.entry(gate.next().await.unwrap().0).or_insert(turn);
        }
        assert!(order[&1] <= 1, "{order:?}");
    });
}
