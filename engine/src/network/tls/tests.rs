//! Over real sockets: the right peers are let in, all others are told why not, and certificates
//! rotate under open connections.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use weir_runtime::clock;

use super::*;
use crate::network::grpc::GrpcNetwork;
use crate::network::{
    CompactionLink, CoordinatorLink, Network, SenderLink, Serving, Unreachable, WorkerLink,
    WorkerService,
};
use crate::protocol::{
    Frame, FromCompactor, Heartbeat, OpenChannel, ToCoordinator, ToWorker, frame, from_compactor,
    to_coordinator, to_worker,
};

/// An authority of a namespace.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    fn issue(&self, dns: &str) -> Pem {
        self.issue_until(dns, rcgen::date_time_ymd(2100, 1, 1))
    }

    fn issue_until(&self, dns: &str, end: time::OffsetDateTime) -> Pem {
        let mut params = CertificateParams::new([dns.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = end;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem().into_bytes();
        Pem { authorities: self.pem(), certificate, key: key.serialize_pem().into_bytes() }
    }

    /// Of `role` in the job shop/flights.
    fn of(&self, role: Role) -> Arc<Tls> {
        Tls::new(&self.issue(&name(role, "flights", "shop"))).unwrap()
    }
}

fn name(role: Role, job: &str, namespace: &str) -> String {
    PeerName { role, job: job.to_owned(), namespace: namespace.to_owned() }.dns()
}

/// Answers heartbeats with themselves, channels and orders with a refusal.
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
        weir_runtime::task::spawn(echo).detach();
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

async fn serve(tls: Arc<Tls>) -> Serving {
    network(tls).serve(Arc::new(Echo)).await.unwrap()
}

fn network(tls: Arc<Tls>) -> Arc<GrpcNetwork> {
    GrpcNetwork::secured(tls, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

async fn within<F: Future>(what: F) -> F::Output {
    clock::timeout(Duration::from_secs(20), what).await.expect("in time")
}

async fn beats(link: &mut CoordinatorLink) -> bool {
    let body = Some(to_worker::Body::Heartbeat(Heartbeat { number: 7 }));
    let sent = link.send.send(ToWorker { term: 1, generation: 0, body }).await;
    sent.is_ok() && within(link.receive.recv()).await.is_some()
}

/// Dials and speaks once: what a server refuses shows with the first answer.
async fn speak(tls: Arc<Tls>, address: &str) -> Result<CoordinatorLink, Unreachable> {
    let mut link = within(network(tls).control(address)).await?;
    match beats(&mut link).await {
        true => Ok(link),
        false => panic!("connected, and nothing came"),
    }
}

async fn refusal(tls: Arc<Tls>, address: &str) -> String {
    speak(tls, address).await.expect_err("is refused").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_commands_workers_and_workers_open_channels() {
    let ours = Authority::new();
    let serving = serve(ours.of(Role::Worker)).await;
    speak(ours.of(Role::Operator), &serving.address).await.unwrap();
    let peer = network(ours.of(Role::Worker));
    let mut channel = within(peer.channel(&serving.address, OpenChannel::default())).await.unwrap();
    let frame = within(channel.receive.recv()).await.unwrap();
    assert_eq!(frame.body, Some(frame::Body::Refused("met".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_roles_jobs_and_namespaces_are_refused_with_a_reason() {
    let ours = Authority::new();
    let serving = serve(ours.of(Role::Worker)).await;
    for (dns, why) in [
        (name(Role::Worker, "flights", "shop"), "the worker of job shop/flights"),
        (name(Role::Compactor, "flights", "shop"), "the compactor of job shop/flights"),
    ] {
        let error = refusal(Tls::new(&ours.issue(&dns)).unwrap(), &serving.address).await;
        let wanted = format!(
            "this call is for the operator of job shop/flights; the caller's certificate is that \
             of {why}"
        );
        assert!(error.ends_with(&wanted), "{error}");
    }
    let peer = network(ours.of(Role::Operator));
    let error = within(peer.channel(&serving.address, OpenChannel::default())).await.unwrap_err();
    assert!(error.reason.contains("for the worker of job shop/flights"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compactor_serves_the_workers_of_its_job_alone() {
    let ours = Authority::new();
    let compactor = serve(ours.of(Role::Compactor)).await;
    let order = async |dns: String, address: &str| {
        let peer = network(Tls::new(&ours.issue(&dns)).unwrap());
        within(peer.compact(address)).await.map_err(|error| error.to_string())
    };
    let worker = name(Role::Worker, "flights", "shop");
    let mut link = order(worker.clone(), &compactor.address).await.unwrap();
    let answer = within(link.receive.recv()).await.unwrap();
    assert_eq!(answer.body, Some(from_compactor::Body::Refused("met".to_owned())));

    let refused = async |dns: String, address: &str| order(dns, address).await.unwrap_err();
    for role in [Role::Operator, Role::Compactor] {
        let error = refused(name(role, "flights", "shop"), &compactor.address).await;
        assert!(error.contains("for the worker of job shop/flights"), "{error}");
    }
    for (job, namespace) in [("trains", "shop"), ("flights", "other")] {
        let error = refused(name(Role::Worker, job, namespace), &compactor.address).await;
        assert!(error.contains("compactor.flights.shop.job.weir.dev"), "{error}");
    }
    // What serves there is a worker: no order is told to it.
    let other = serve(ours.of(Role::Worker)).await;
    let error = refused(worker, &other.address).await;
    assert!(error.contains("worker.flights.shop.job.weir.dev"), "{error}");
}

/// Whoever dials refuses a worker of another job before it says anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_another_job_is_not_spoken_to() {
    let ours = Authority::new();
    for (job, namespace) in [("trains", "shop"), ("flights", "other")] {
        let its = Tls::new(&ours.issue(&name(Role::Worker, job, namespace))).unwrap();
        let serving = serve(its).await;
        let error = refusal(ours.of(Role::Operator), &serving.address).await;
        assert!(error.contains("worker.flights.shop.job.weir.dev"), "{error}");
        assert!(error.contains(&format!("worker.{job}.{namespace}.job.weir.dev")), "{error}");
    }
}

/// An operator of another job has the right authority and reaches the right kind of process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_of_another_job_is_refused() {
    let ours = Authority::new();
    let serving = serve(ours.of(Role::Worker)).await;
    // One that does not look at the name of whom it dials.
    let its = Material::new(&ours.issue(&name(Role::Operator, "trains", "shop"))).unwrap();
    let its = Tls {
        name: PeerName::parse(&name(Role::Operator, "flights", "shop")).unwrap(),
        material: watch::Sender::new(Arc::new(its)),
    };
    let error = refusal(Arc::new(its), &serving.address).await;
    assert!(error.ends_with("is that of the operator of job shop/trains"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_authority_an_expired_certificate_and_none_are_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let serving = serve(ours.of(Role::Worker)).await;
    let error = refusal(theirs.of(Role::Operator), &serving.address).await;
    assert!(error.contains("UnknownIssuer") || error.contains("BadSignature"), "{error}");
    // It trusts the server, and the server does not trust it.
    let mut stranger = theirs.issue(&name(Role::Operator, "flights", "shop"));
    stranger.authorities = ours.pem();
    let error = refusal(Tls::new(&stranger).unwrap(), &serving.address).await;
    assert!(error.contains("UnknownCA") || error.contains("DecryptError"), "{error}");
    let dns = name(Role::Operator, "flights", "shop");
    let old = ours.issue_until(&dns, rcgen::date_time_ymd(2021, 1, 1));
    let error = refusal(Tls::new(&old).unwrap(), &serving.address).await;
    assert!(error.contains("CertificateExpired"), "{error}");
    let plain = GrpcNetwork::loopback();
    within(plain.control(&serving.address)).await.expect_err("speaks no TLS");
    // All of which harmed nobody.
    speak(ours.of(Role::Operator), &serving.address).await.unwrap();
}

#[test]
fn an_operators_certificate_serves_no_worker_and_a_nameless_one_nobody() {
    let ours = Authority::new();
    let error = Tls::new(&ours.issue("example.org")).unwrap_err();
    assert_eq!(error.to_string(), "tls.crt names no role, job and namespace, but: example.org");
    let mut other_key = ours.issue(&name(Role::Worker, "flights", "shop"));
    other_key.key = ours.issue("example.org").key;
    assert!(matches!(Tls::new(&other_key).unwrap_err(), TlsError::Unusable(_)));
    let tls = ours.of(Role::Worker);
    let error = tls.replace(&ours.issue(&name(Role::Worker, "trains", "shop"))).unwrap_err();
    assert!(error.to_string().ends_with("this process is the worker of job shop/flights"));
}

fn write(folder: &std::path::Path, pem: &Pem) {
    std::fs::write(folder.join("ca.crt"), &pem.authorities).unwrap();
    std::fs::write(folder.join("tls.crt"), &pem.certificate).unwrap();
    std::fs::write(folder.join("tls.key"), &pem.key).unwrap();
}

/// A secret's mount: `..data` points to a folder, and the files point through it.
fn mount(root: &std::path::Path, version: &str, pem: &Pem) {
    use std::os::unix::fs::symlink;
    let folder = root.join(version);
    std::fs::create_dir(&folder).unwrap();
    write(&folder, pem);
    symlink(version, root.join("..new")).unwrap();
    std::fs::rename(root.join("..new"), root.join("..data")).unwrap();
    for file in ["ca.crt", "tls.crt", "tls.key"] {
        let _ = symlink(format!("..data/{file}"), root.join(file));
    }
}

/// One authority follows another: both are trusted, then certificates come from the new one, then
/// the old one goes. Nobody is disconnected, and at no step is anybody refused who should not be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_authorities_rotate_under_an_open_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let both = [old.pem(), new.pem()].concat();
    let (worker, operator) =
        (name(Role::Worker, "flights", "shop"), name(Role::Operator, "flights", "shop"));
    let with = |mut pem: Pem, authorities: &[u8]| {
        pem.authorities = authorities.to_vec();
        pem
    };
    let folder = tempfile::tempdir().unwrap();
    mount(folder.path(), "..1", &old.issue(&worker));
    let (tls, _watching) = Tls::watch_folder(folder.path()).await.unwrap();
    let serving = serve(Arc::clone(&tls)).await;
    let commander = Tls::new(&old.issue(&operator)).unwrap();
    let mut open = speak(Arc::clone(&commander), &serving.address).await.unwrap();

    mount(folder.path(), "..2", &with(old.issue(&worker), &both));
    commander.replace(&with(new.issue(&operator), &both)).unwrap();
    let renewed = async {
        // Refused until the worker has seen its new authorities.
        while network(Arc::clone(&commander)).control(&serving.address).await.is_err() {
            clock::sleep(Duration::from_millis(100)).await;
        }
    };
    within(renewed).await;
    speak(Arc::clone(&commander), &serving.address).await.unwrap();
    mount(folder.path(), "..3", &new.issue(&worker));
    commander.replace(&new.issue(&operator)).unwrap();
    let renewed = async {
        while network(Arc::clone(&commander)).control(&serving.address).await.is_err() {
            clock::sleep(Duration::from_millis(100)).await;
        }
    };
    within(renewed).await;
    let error = refusal(Tls::new(&with(old.issue(&operator), &both)).unwrap(), &serving.address);
    let error = error.await;
    assert!(error.contains("UnknownCA") || error.contains("DecryptError"), "{error}");
    assert!(beats(&mut open).await, "the first connection lives on");
}
