//! `weir worker` as it runs in a pod: no parent, mutual TLS, probes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Child;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use weir_engine::network::grpc::GrpcNetwork;
use weir_engine::network::tls::{PeerName, Pem, Role, Tls};
use weir_engine::network::{CoordinatorLink, Network};
use weir_engine::protocol::to_coordinator::Body;
use weir_engine::protocol::{Hello, HelloReply, PROTOCOL_VERSION, ToWorker, to_worker};

use crate::command::{Folder, until};

const TOKEN: &str = "a-token";

/// A worker process that is killed with the test.
struct Worker {
    process: Child,
    address: SocketAddr,
    probes: SocketAddr,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn issue(issuer: &CertifiedIssuer<'_, KeyPair>, role: Role, job: &str) -> Pem {
    let name = PeerName { role, job: job.to_owned(), namespace: "shop".to_owned() };
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.dns()]).unwrap();
    Pem {
        authorities: issuer.pem().into_bytes(),
        certificate: params.signed_by(&key, issuer).unwrap().pem().into_bytes(),
        key: key.serialize_pem().into_bytes(),
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// An address that nobody has right now.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn start(folder: &Folder, pem: &Pem) -> Worker {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    folder.write("tls/ca.crt", &text(&pem.authorities));
    folder.write("tls/tls.crt", &text(&pem.certificate));
    folder.write("tls/tls.key", &text(&pem.key));
    let (address, probes) = (free(), free());
    let (listen, at) = (address.to_string(), probes.to_string());
    let flags = ["--tls", "tls", "--incarnation", "2-abc", "--listen", &listen, "--probes", &at];
    let mut command = folder.command(&[&["worker", "--ordinal", "2"], &flags[..]].concat());
    let process = command.env("WEIR_TOKEN", TOKEN).spawn().unwrap();
    let worker = Worker { process, address, probes };
    until("it answers probes", || ask(&worker, "/healthz").is_some());
    worker
}

fn ask(worker: &Worker, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(worker.probes).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

async fn greet(link: &mut CoordinatorLink, term: u64) -> HelloReply {
    let (incarnation, token) = ("1-cafe".to_owned(), TOKEN.to_owned());
    let hello = Hello { protocol: PROTOCOL_VERSION, incarnation, token };
    let body = Some(to_worker::Body::Hello(hello));
    link.send.send(ToWorker { term, generation: 0, body }).await.unwrap();
    match link.receive.recv().await.unwrap().body {
        Some(Body::Hello(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_in_a_pod_obeys_its_operator_outlives_it_and_leaves_when_asked() {
    let folder = Folder::new();
    let issuer = authority();
    let mut worker = start(&folder, &issue(&issuer, Role::Worker, "flights"));
    let operator = |job| {
        let tls = Tls::new(&issue(&issuer, Role::Operator, job)).unwrap();
        GrpcNetwork::secured(tls, SocketAddr::from(([127, 0, 0, 1], 0)))
    };
    let address = worker.address.to_string();
    let stranger: Arc<GrpcNetwork> = operator("trains");
    let error = stranger.control(&address).await.unwrap_err().to_string();
    assert!(error.contains("worker.trains.shop.job.weir.dev"), "{error}");

    let mut first = operator("flights").control(&address).await.unwrap();
    let reply = greet(&mut first, 1).await;
    assert_eq!((reply.worker.as_str(), reply.refused.as_str()), ("2-abc", ""));
    let ready = ask(&worker, "/readyz").unwrap();
    assert!(ready.starts_with("HTTP/1.1 200") && !ready.contains("no coordinator"), "{ready}");
    let metrics = ask(&worker, "/metrics").unwrap();
    let connected = "weir_worker_coordinator_connected{weir_job=\"shop/flights\"} 1";
    assert!(metrics.contains(connected), "{metrics}");

    drop(first);
    until("it sees that its coordinator is gone", || {
        ask(&worker, "/readyz").unwrap().contains("no coordinator is connected")
    });
    let mut second = operator("flights").control(&address).await.unwrap();
    assert_eq!(greet(&mut second, 2).await.refused, "");
    let mut late = operator("flights").control(&address).await.unwrap();
    assert_eq!(greet(&mut late, 1).await.refused, "term 1 was superseded by term 2");

    let asked = std::process::Command::new("kill").arg(worker.process.id().to_string()).status();
    assert!(asked.unwrap().success());
    until("it says that it leaves", || {
        ask(&worker, "/readyz").unwrap_or_default().contains("not ready: it was asked to end")
    });
    // Its coordinator lets it go.
    drop((second, late));
    until("it ends", || worker.process.try_wait().unwrap().is_some());
    let ended = worker.process.wait().unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn a_worker_whose_certificate_is_not_a_workers_says_so_and_ends() {
    let folder = Folder::new();
    let pem = issue(&authority(), Role::Operator, "flights");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    folder.write("tls/ca.crt", &text(&pem.authorities));
    let flags = ["--tls", "tls", "--incarnation", "0-a", "--listen", "127.0.0.1:0"];
    let args = [&["worker", "--probes", "127.0.0.1:0"], &flags[..]].concat();
    let run = || {
        let done = folder.command(&args).env("WEIR_TOKEN", TOKEN).output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, said) = run();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("cannot read tls/tls.crt"), "{said}");
    folder.write("tls/tls.crt", &text(&pem.certificate));
    folder.write("tls/tls.key", &text(&pem.key));
    let (code, said) = run();
    assert_eq!(code, Some(1), "{said}");
    let why = "tls.crt is that of the operator of job shop/flights, not of worker";
    assert!(said.contains(why), "{said}");
}
