//! What goes wrong surfaces as an error with words, and nothing hangs.

use weir_runtime::clock::Elapsed;

use super::*;
use crate::protocol::{Frame, PROTOCOL_VERSION};

fn open(generation: u64, edge: u32) -> OpenChannel {
    let registry = Registry::new(INCARNATION, TOKEN);
    let generation = Generation(generation);
    registry.opening(ChannelId { generation, edge, from: 0, to: 0 })
}

/// What a receiver that sends `open` is told, if the sender's end is not taken up.
async fn refusal(registry: &Arc<Registry>, open: OpenChannel) -> String {
    let (send, mut frames) = tokio::sync::mpsc::channel(4);
    let (_credit, receive) = tokio::sync::mpsc::channel(4);
    registry.opened(&open, SenderLink { send, receive });
    match frames.recv().await {
        Some(Frame { body: Some(frame::Body::Refused(reason)) }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn strangers_are_refused_by_name() {
    sim::run(1, async {
        let registry = Registry::new(INCARNATION, TOKEN);
        registry.begin(Generation(4));
        let other = OpenChannel { incarnation: "2-def".to_owned(), ..open(4, 0) };
        assert_eq!(refusal(&registry, other).await, "incarnation 2-def, this worker serves 1-abc");
        let wrong = OpenChannel { token: "guess!".to_owned(), ..open(4, 0) };
        assert_eq!(refusal(&registry, wrong).await, "wrong token");
        let newer = OpenChannel { protocol: PROTOCOL_VERSION + 1, ..open(4, 0) };
        assert_eq!(refusal(&registry, newer).await, "protocol 2, this worker speaks 1");
        assert_eq!(
            refusal(&registry, open(3, 0)).await,
            "generation 3 is over, this worker runs 4"
        );
        let start = clock::now();
        let late = refusal(&registry, open(4, 0)).await;
        assert_eq!(late, format!("no subtask sends to it after {OPEN_WAIT:?}"));
        assert_eq!(clock::now() - start, OPEN_WAIT);
    });
}

#[test]
fn a_newer_generation_refuses_those_who_wait_for_an_older() {
    sim::run(2, async {
        let registry = Registry::new(INCARNATION, TOKEN);
        registry.begin(Generation(1));
        let (waiting, opened) = (Arc::clone(&registry), Arc::clone(&registry));
        let channel = ChannelId { generation: Generation(1), edge: 9, from: 0, to: 0 };
        let sender = task::spawn(async move { waiting.accept(channel).await.unwrap_err() });
        let receiver = task::spawn(async move { refusal(&opened, open(1, 0)).await });
        let newer = ChannelId { generation: Generation(2), edge: 0, from: 0, to: 0 };
        let ahead = Arc::clone(&registry);
        let ahead = task::spawn(async move { ahead.accept(newer).await.map(drop) });
        clock::sleep(Duration::from_secs(1)).await;
        registry.begin(Generation(2));
        assert_eq!(receiver.await.unwrap(), "generation 1 is over, this worker runs 2");
        assert_eq!(
            sender.await.unwrap().to_string(),
            "edge 9 from subtask 0 to subtask 0 of generation 1 was refused: \
             generation 1 is over, this worker runs 2"
        );
        // One who waits for the new generation is still there.
        let (send, _frames) = tokio::sync::mpsc::channel(4);
        let (_credit, receive) = tokio::sync::mpsc::channel(4);
        registry.opened(&open(2, 0), SenderLink { send, receive });
        ahead.await.unwrap().unwrap();
    });
}

#[test]
fn a_gate_tells_why_it_was_refused() {
    sim::run(3, async {
        let network = SimNetwork::new(NetworkFaults::none());
        let a = Worker::start(&network, "a").await;
        let b = Worker::start(&network, "b").await;
        for local in [true, false] {
            let mut gate = if local { &a } else { &b }.gate(0, 0, &[&a]).await;
            let error = gate.next().await.unwrap_err();
            assert_eq!(error.remedy(), Remedy::NewGeneration);
            assert_eq!(
                error.to_string(),
                "edge 0 from subtask 0 to subtask 0 of generation 1 was refused: \
                 no subtask sends to it after 20s"
            );
        }
    });
}

#[test]
fn an_output_that_nobody_opens_says_so() {
    sim::run(4, async {
        let registry = Registry::new(INCARNATION, TOKEN);
        let edge =
            OutputEdge { edge: 3, from: 1, width: 2, key_columns: vec![0], key_groups: GROUPS };
        let error = OutputChannels::open(&registry, Generation(1), edge).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "edge 3 from subtask 1 to subtask 0 of generation 1: the other end did not open it \
             within 20s"
        );
    });
}

#[test]
fn an_unreachable_worker_is_named() {
    sim::run(5, async {
        let network = SimNetwork::new(NetworkFaults::none());
        let a = Worker::start(&network, "a").await;
        let input =
            Input { edge: 0, from: 0, address: Some("sim:99".to_owned()), schema: schema() };
        let opened = InputGate::open(&a.network, &a.registry, Generation(1), 0, vec![input]).await;
        let error = opened.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, "cannot reach worker sim:99: connection refused");
    });
}

/// Both kinds of channel, a sender that goes away: its messages, then the error; after `End` none.
#[test]
fn a_sender_that_leaves_before_the_end_is_an_error() {
    for (end, local) in [(true, true), (true, false), (false, true), (false, false)] {
        sim::run(6, async {
            let network = SimNetwork::new(NetworkFaults::none());
            let a = Worker::start(&network, "a").await;
            let b = Worker::start(&network, "b").await;
            let mut gate = if local { &a } else { &b }.gate(0, 0, &[&a]).await;
            let mut output = a.output(0, 0, 1).await;
            output.send(rows(0, 0..10, 97)).await.unwrap();
            output.flush().await.unwrap();
            if end {
                output.broadcast(Message::End).await.unwrap();
            }
            drop(output);
            assert!(matches!(gate.next().await.unwrap().1, Message::Rows(_)));
            if end {
                assert!(matches!(gate.next().await.unwrap().1, Message::End));
            }
            let after = clock::timeout(Duration::from_secs(60), gate.next()).await;
            match (end, after) {
                (true, Err(Elapsed(_))) => {}
                (false, Ok(Err(ExchangeError::Disconnected { .. }))) => {}
                other => panic!("{other:?}"),
            }
        });
    }
}

/// A reader that goes away: the sender learns it, also while it waits for credit.
#[test]
fn a_sender_learns_that_its_reader_is_gone() {
    for local in [true, false] {
        sim::run(7, async {
            let network = SimNetwork::new(NetworkFaults::none());
            let a = Worker::start(&network, "a").await;
            let b = Worker::start(&network, "b").await;
            let gate = if local { &a } else { &b }.gate(0, 0, &[&a]).await;
            let mut output = a.output(0, 0, 1).await;
            let sending = task::spawn(async move {
                for batch in 0.. {
                    let rows = rows(0, batch * 4096..(batch + 1) * 4096, 97);
                    if let Err(error) = output.send(rows).await {
                        return error;
                    }
                }
                unreachable!()
            });
            clock::sleep(Duration::from_secs(1)).await;
            assert!(!sending.is_finished());
            drop(gate);
            let error = clock::timeout(Duration::from_secs(1), sending).await;
            assert!(matches!(error.unwrap().unwrap(), ExchangeError::Disconnected { .. }));
        });
    }
}

/// Breaks and crashes at random moments: a receiver gets a prefix of each channel and an error,
/// or everything; never a gap, never a repetition, never silence.
#[test]
fn a_broken_channel_is_a_prefix_and_an_error() {
    let mut errors = 0;
    for seed in 0..60 {
        errors += sim::run(seed, async {
            let network = SimNetwork::new(NetworkFaults::none());
            let a = Worker::start(&network, "a").await;
            let b = Worker::start(&network, "b").await;
            // The reader belongs to no process: only the sender may crash.
            let address = Some(a.address.clone());
            let inputs = vec![Input { edge: 0, from: 0, address, schema: schema() }];
            let opened = InputGate::open(&b.network, &b.registry, Generation(1), 0, inputs);
            let mut gate = opened.await.unwrap();
            let mut output = a.output(0, 0, 1).await;
            let total = 40_000;
            network.set_faults(NetworkFaults {
                break_per_million: 10_000,
                crash_per_million: 10_000,
                crashes_max: 1,
                silent_per_million: 0,
                ..NetworkFaults::rough()
            });
            let sending = a.process.spawn(async move {
                for batch in 0..total / 1000 {
                    output.send(rows(0, batch * 1000..(batch + 1) * 1000, 97)).await?;
                }
                output.broadcast(Message::End).await?;
                Ok::<_, ExchangeError>(output)
            });
            let reading = async {
                let mut numbers = Vec::new();
                loop {
                    match gate.next().await {
                        Ok((_, Message::Rows(rows))) => numbers.extend(column(&rows, 2)),
                        Ok((_, Message::End)) => return (numbers, None),
                        Ok(_) => {}
                        Err(error) => return (numbers, Some(error)),
                    }
                }
            };
            let read = clock::timeout(Duration::from_secs(600), reading).await;
            let (numbers, error) = read.expect("neither silence nor deadlock");
            let expected: Vec<i64> = (0..numbers.len() as i64).collect();
            assert_eq!(numbers, expected, "seed {seed}");
            assert_eq!(error.is_none(), numbers.len() as i64 == total, "seed {seed}");
            drop(sending);
            u32::from(error.is_some())
        });
    }
    assert!((10..60).contains(&errors), "{errors} of 60 runs broke");
}

#[test]
fn rows_that_are_damaged_on_the_way_are_an_error() {
    sim::run(8, async {
        let network = SimNetwork::new(NetworkFaults::none());
        let a = Worker::start(&network, "a").await;
        let b = Worker::start(&network, "b").await;
        let other = Arc::new(Schema::new(vec![Field::new("x", DataType::Utf8, false)]));
        let input = Input { edge: 0, from: 0, address: Some(a.address.clone()), schema: other };
        let mut gate =
            InputGate::open(&b.network, &b.registry, Generation(1), 0, vec![input]).await.unwrap();
        let mut output = a.output(0, 0, 1).await;
        output.send(rows(0, 0..3, 97)).await.unwrap();
        output.flush().await.unwrap();
        let error = gate.next().await.unwrap_err();
        assert!(matches!(error, ExchangeError::Damaged { .. }), "{error}");
    });
}
