//! Over real sockets: calls work, rows flow, a dropped service ends everything.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use weir_runtime::clock;
use weir_state::ids::{CheckpointId, Generation};

use super::*;
use crate::exchange::message::Message;
use crate::exchange::{Input, InputGate, OutputChannels, OutputEdge, Registry};
use crate::network::{SenderLink, WorkerLink};
use crate::protocol::{Heartbeat, to_coordinator, to_worker};
use crate::rows::Rows;

/// Answers heartbeats, and brings channels to a registry.
struct Service {
    registry: Arc<Registry>,
    calls: AtomicUsize,
}

impl WorkerService for Service {
    fn control(&self, mut link: WorkerLink) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let echo = async move {
            while let Some(ToWorker { body: Some(to_worker::Body::Heartbeat(heartbeat)), .. }) =
                link.receive.recv().await
            {
                let body = Some(to_coordinator::Body::Heartbeat(heartbeat));
                let _ = link.send.send(ToCoordinator { generation: 0, body }).await;
            }
        };
        task::spawn(echo).detach();
    }

    fn channel(&self, open: OpenChannel, link: SenderLink) {
        self.registry.opened(&open, link);
    }
}

async fn start() -> (Arc<GrpcNetwork>, Arc<Registry>, Serving) {
    let network = GrpcNetwork::loopback();
    let registry = Registry::new("1-abc", "token");
    let service = Service { registry: Arc::clone(&registry), calls: AtomicUsize::new(0) };
    let serving = network.serve(Arc::new(service)).await.unwrap();
    (network, registry, serving)
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("text", DataType::Utf8, false),
    ]))
}

fn rows(numbers: std::ops::Range<i64>) -> Rows {
    let text: StringArray = numbers.clone().map(|n| Some(format!("text number {n}"))).collect();
    let columns = vec![Arc::new(numbers.clone().collect::<Int64Array>()) as _, Arc::new(text) as _];
    Rows {
        batch: RecordBatch::try_new(schema(), columns).unwrap(),
        times: Some(numbers.collect()),
        origins: None,
        kinds: None,
    }
}

fn ping(number: u64) -> ToWorker {
    let body = Some(to_worker::Body::Heartbeat(Heartbeat { number }));
    ToWorker { term: 1, generation: 0, body }
}

async fn within<F: Future>(what: F) -> F::Output {
    clock::timeout(Duration::from_secs(20), what).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_call_goes_both_ways_and_ends_with_the_service() {
    let (network, _registry, serving) = start().await;
    let mut link = within(network.control(&serving.address)).await.unwrap();
    for n in 0..100 {
        within(link.send.send(ping(n))).await.unwrap();
        let answer = within(link.receive.recv()).await.unwrap();
        let expected = to_coordinator::Body::Heartbeat(Heartbeat { number: n });
        assert_eq!(answer.body, Some(expected));
    }
    let address = serving.address.clone();
    drop(serving);
    assert!(within(link.receive.recv()).await.is_none(), "the call breaks");
    let error = within(network.control(&address)).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot reach worker {address}")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_flow_within_credit_in_order_until_the_end() {
    let (network, registry, serving) = start().await;
    // The receiver is another process: a registry and a network of its own.
    let far: Arc<dyn Network> = GrpcNetwork::loopback();
    let near = Registry::new("1-abc", "token");
    let inputs = (0..3)
        .map(|from| Input {
            edge: 0,
            from,
            address: Some(serving.address.clone()),
            schema: schema(),
        })
        .collect();
    let mut gate = within(InputGate::open(&far, &near, Generation(1), 0, inputs)).await.unwrap();
    let mut senders = Vec::new();
    for from in 0..3 {
        let edge = OutputEdge { edge: 0, from, width: 1, key_columns: vec![0], key_groups: 128 };
        let mut output =
            within(OutputChannels::open(&registry, Generation(1), edge)).await.unwrap();
        senders.push(task::spawn(async move {
            for batch in 0..50 {
                output.send(rows(batch * 1000..(batch + 1) * 1000)).await.unwrap();
            }
            output.broadcast(Message::Barrier(CheckpointId(1))).await.unwrap();
            output.broadcast(Message::End).await.unwrap();
            output
        }));
    }
    let mut next = [0; 3];
    let mut barriers = 0;
    let mut ends = 0;
    while ends < 3 {
        let (input, message) = within(gate.next()).await.unwrap();
        match message {
            Message::Rows(got) => {
                let count = got.len() as i64;
                let expected = rows(next[input]..next[input] + count);
                assert_eq!((got.batch, got.times), (expected.batch, expected.times));
                next[input] += count;
            }
            Message::Barrier(_) => barriers += 1,
            Message::End => ends += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((next, barriers), ([50_000; 3], 3));
    // One connection carries all channels, and the service's end ends them.
    drop(network);
    drop(serving);
    for sender in senders {
        drop(within(sender).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_told_why_and_an_unserved_address_is_named() {
    let (network, _registry, serving) = start().await;
    let near = Registry::new("2-other", "token");
    let dialler: Arc<dyn Network> = GrpcNetwork::loopback();
    let address = Some(serving.address.clone());
    let input = Input { edge: 0, from: 0, address, schema: schema() };
    let opened = InputGate::open(&dialler, &near, Generation(1), 0, vec![input]);
    let error = within(within(opened).await.unwrap().next()).await.unwrap_err();
    assert!(
        error.to_string().ends_with("incarnation 2-other, this worker serves 1-abc"),
        "{error}"
    );
    // A port that was just closed.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = within(network.control(&nobody)).await.unwrap_err();
    assert!(error.to_string().contains(&nobody), "{error}");
}

/// Forwards bytes to `target` until the sender says so; then the connections that exist hang, as
/// those to a node that is gone without a word, and later ones work.
async fn proxy(target: String) -> (String, tokio::sync::watch::Sender<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (hang, hangs) = tokio::sync::watch::channel(());
    let forward = async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (target, mut hangs) = (target.clone(), hangs.clone());
            hangs.mark_unchanged();
            task::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    Ok(()) = hangs.changed() => std::future::pending().await,
                }
            })
            .detach();
        }
    };
    task::spawn(forward).detach();
    (address, hang)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_hangs_is_given_up_and_no_new_call_waits_for_it() {
    let (network, _registry, serving) = start().await;
    let (address, hang) = proxy(serving.address.clone()).await;
    let mut link = within(network.control(&address)).await.unwrap();
    link.send.send(ping(1)).await.unwrap();
    within(link.receive.recv()).await.unwrap();
    let since = clock::now();
    hang.send_replace(());
    let mut fresh = within(network.control(&address)).await.unwrap();
    fresh.send.send(ping(2)).await.unwrap();
    within(fresh.receive.recv()).await.unwrap();
    assert!(clock::now() - since < Duration::from_secs(2), "it waited for the other one");
    assert!(within(link.receive.recv()).await.is_none(), "nothing can come");
    let given_up = clock::now() - since;
    assert!(
        given_up < KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT + Duration::from_secs(3),
        "{given_up:?}"
    );
}
