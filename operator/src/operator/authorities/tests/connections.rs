//! Real connections while one authority follows another: the open ones live on, and at each step
//! those who are a step behind and those who are not take each other.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use weir_engine::network::grpc::GrpcNetwork;
use weir_engine::network::tls::{Pem, Role, Tls};
use weir_engine::network::{
    CompactionLink, CoordinatorLink, Network, SenderLink, Serving, WorkerLink, WorkerService,
};
use weir_engine::protocol::{
    Frame, FromCompactor, Heartbeat, OpenChannel, ToCoordinator, ToWorker, frame, from_compactor,
    to_coordinator, to_worker,
};

use super::*;
use crate::certificates::make_authority;
use crate::operator::secrets::job::certificate;

/// Answers heartbeats with themselves, and channels with a word.
struct Echo;

impl WorkerService for Echo {
    fn control(&self, mut link: WorkerLink) {
        let echo = async move {
            while let Some(ToWorker { body: Some(to_worker::Body::Heartbeat(beat)), .. }) =
                link.receive.recv().await
            {
                let body = Some(to_coordinator::Body::Heartbeat(beat));
                let _ = link.send.send(ToCoordinator { generation: 0, body }).await;
            }
        };
        task::spawn(echo).detach();
    }

    fn channel(&self, _: OpenChannel, link: SenderLink) {
        let body = Some(frame::Body::Refused("met".to_owned()));
        let _ = link.send.try_send(Frame { body });
    }

    fn compaction(&self, link: CompactionLink) {
        let body = Some(from_compactor::Body::Refused("met".to_owned()));
        let _ = link.send.try_send(FromCompactor { body });
    }
}

fn network(tls: &Arc<Tls>) -> Arc<GrpcNetwork> {
    GrpcNetwork::secured(Arc::clone(tls), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

async fn within<F: Future>(what: F) -> F::Output {
    clock::timeout(Duration::from_secs(20), what).await.expect("in time")
}

async fn beats(link: &mut CoordinatorLink) -> bool {
    let body = Some(to_worker::Body::Heartbeat(Heartbeat { number: 7 }));
    let sent = link.send.send(ToWorker { term: 1, generation: 0, body }).await;
    sent.is_ok() && within(link.receive.recv()).await.is_some()
}

/// What everybody gets from these authorities.
struct Given {
    operator: Pem,
    worker: Pem,
    compactor: Pem,
}

impl Given {
    fn by(kept: &Kept) -> Self {
        let of =
            |role| certificate(kept, &owner("flights"), role, &times(), now_seconds()).unwrap();
        Self {
            operator: of(Role::Operator),
            worker: of(Role::Worker),
            compactor: of(Role::Compactor),
        }
    }
}

fn after(kept: &Kept, step: Step) -> Kept {
    let make = || make_authority("shop", times().authority(now_seconds()));
    kept.clone().after(step, make).unwrap()
}

/// A coordinator, and two workers and a compactor that serve.
struct Job {
    operator: Arc<Tls>,
    workers: [Arc<Tls>; 2],
    compactor: Arc<Tls>,
    serving: Vec<Serving>,
}

impl Job {
    async fn begin(given: &Given) -> Self {
        let workers = [(); 2].map(|()| Tls::new(&given.worker).unwrap());
        let compactor = Tls::new(&given.compactor).unwrap();
        let mut serving = Vec::new();
        for tls in workers.iter().chain([&compactor]) {
            serving.push(network(tls).serve(Arc::new(Echo)).await.unwrap());
        }
        Self { operator: Tls::new(&given.operator).unwrap(), workers, compactor, serving }
    }

    async fn command(&self, worker: usize) -> Result<CoordinatorLink, String> {
        let link = within(network(&self.operator).control(&self.serving[worker].address)).await;
        link.map_err(|error| format!("operator: {error}"))
    }

    /// All open new connections. Errors: who does not take whom.
    async fn meet(&self) -> Result<(), String> {
        for worker in [0, 1] {
            assert!(beats(&mut self.command(worker).await?).await);
        }
        for (dialling, serving) in [(0, 1), (1, 0)] {
            let network = network(&self.workers[dialling]);
            let open = network.channel(&self.serving[serving].address, OpenChannel::default());
            let mut link = within(open).await.map_err(|error| format!("worker: {error}"))?;
            assert!(within(link.receive.recv()).await.is_some());
            let order = network.compact(&self.serving[2].address);
            let mut link = within(order).await.map_err(|error| format!("order: {error}"))?;
            assert!(within(link.receive.recv()).await.is_some());
        }
        Ok(())
    }

    /// Gives it to all, one after the other in several orders; whoever has it and who has not meet.
    async fn deliver(&self, before: &Given, given: &Given) {
        let replace = |party: usize, its: &Given| match party {
            0 => self.operator.replace(&its.operator).unwrap(),
            3 => self.compactor.replace(&its.compactor).unwrap(),
            worker => self.workers[worker - 1].replace(&its.worker).unwrap(),
        };
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2]] {
            order.iter().for_each(|party| replace(*party, before));
            for party in order {
                replace(party, given);
                self.meet().await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_live_and_are_made_while_one_authority_follows_another() {
    let first = after(&Kept::default(), Step::Begin);
    let mut before = Given::by(&first);
    let job = Job::begin(&before).await;
    let mut open = vec![job.command(0).await.unwrap()];
    job.meet().await.unwrap();
    let mut kept = first.clone();
    for step in [Step::AddNext, Step::Promote, Step::DropPrevious] {
        kept = after(&kept, step);
        let now = Given::by(&kept);
        job.deliver(&before, &now).await;
        open.push(job.command(1).await.unwrap());
        for link in &mut open {
            assert!(beats(link).await, "{step:?}: what was opened before lives on");
        }
        before = now;
    }
    // What the first one issued is nobody's now.
    job.operator.replace(&Given::by(&first).operator).unwrap();
    assert!(job.meet().await.is_err());
}

/// What waiting is for: with a step left out those who are behind are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_step_between_those_who_are_behind_are_refused() {
    let first = after(&Kept::default(), Step::Begin);
    let promoted = after(&after(&first, Step::AddNext), Step::Promote);
    let job = Job::begin(&Given::by(&first)).await;
    job.meet().await.unwrap();
    job.operator.replace(&Given::by(&promoted).operator).unwrap();
    let told = job.meet().await.unwrap_err();
    assert!(told.starts_with("operator: "), "{told}");
}
