//! As much of an S3 server as the tests need, in memory: put with `If-None-Match`, get with ranges,
//! head, list, delete.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Any port of this machine that is free.
pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How the stub behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Good,
    /// A put with `If-None-Match: *` replaces what is there.
    IgnoresCondition,
    /// A put with `If-None-Match: *` is answered by 501.
    RefusesCondition,
    /// Everything is answered by 403.
    Denies,
}

type Objects = BTreeMap<String, Vec<u8>>;

#[derive(Clone)]
pub(crate) struct Stub {
    address: SocketAddr,
    behaviour: Behaviour,
    objects: Arc<Mutex<Objects>>,
    requests: Arc<Mutex<Vec<String>>>,
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Response {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Response {
    fn new(status: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    fn error(status: &'static str, code: &str) -> Self {
        Self::new(status, format!("<Error><Code>{code}</Code><Message>no</Message></Error>"))
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Stub {
    pub(crate) async fn start_at(address: SocketAddr, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (objects, requests) = (Arc::default(), Arc::default());
        let stub = Self { address, behaviour, objects, requests };
        let server = stub.clone();
        weir_runtime::task::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                weir_runtime::task::spawn(server.clone().serve(stream)).detach();
            }
        })
        .detach();
        stub
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A line per request, with its condition.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    async fn serve(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read_request(&mut stream).await {
            let condition = request.headers.get("if-none-match");
            let mut line = format!("{} {}", request.method, request.path);
            if let Some(condition) = condition {
                let _ = write!(line, " If-None-Match: {condition}");
            }
            self.requests.lock().unwrap().push(line);
            let head = request.method == "HEAD";
            let response = self.answer(request);
            let mut text = format!("HTTP/1.1 {}\r\n", response.status);
            for (name, value) in &response.headers {
                let _ = write!(text, "{name}: {value}\r\n");
            }
            if !response.headers.iter().any(|(name, _)| *name == "Content-Length") {
                let _ = write!(text, "Content-Length: {}\r\n", response.body.len());
            }
            text.push_str("\r\n");
            let mut bytes = text.into_bytes();
            if !head {
                bytes.extend(response.body);
            }
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: Request) -> Response {
        if self.behaviour == Behaviour::Denies {
            return Response::error("403 Forbidden", "AccessDenied");
        }
        let key = request.path.strip_prefix("/bucket").unwrap_or(&request.path);
        let key = decoded(key.trim_start_matches('/'));
        let mut objects = self.objects.lock().unwrap();
        match request.method.as_str() {
            "PUT" => put(&mut objects, self.behaviour, key, request),
            "GET" if key.is_empty() => list(&objects, &request.query),
            "GET" | "HEAD" => get(&objects, &key, &request),
            "DELETE" => {
                objects.remove(&key);
                Response::new("204 No Content", "")
            }
            "POST" if request.query.contains_key("delete") => delete(&mut objects, &request.body),
            other => Response::error("400 Bad Request", other),
        }
    }
}

fn put(objects: &mut Objects, behaviour: Behaviour, key: String, request: Request) -> Response {
    let create = request.headers.get("if-none-match").is_some_and(|value| value == "*");
    if create && behaviour == Behaviour::RefusesCondition {
        return Response::error("501 Not Implemented", "NotImplemented");
    }
    if create && behaviour == Behaviour::Good && objects.contains_key(&key) {
        return Response::error("412 Precondition Failed", "PreconditionFailed");
    }
    objects.insert(key, request.body);
    Response::new("200 OK", "").with("ETag", "\"tag\"")
}

fn get(objects: &Objects, key: &str, request: &Request) -> Response {
    let Some(bytes) = objects.get(key) else {
        return Response::error("404 Not Found", "NoSuchKey");
    };
    let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
    let bounds = range.and_then(|range| range.split_once('-'));
    let response = match bounds {
        Some((start, end)) => {
            let start: usize = start.parse().unwrap();
            let end = end.parse().map_or(bytes.len(), |end: usize| (end + 1).min(bytes.len()));
            let shown = format!("bytes {start}-{}/{}", end - 1, bytes.len());
            Response::new("206 Partial Content", &bytes[start..end]).with("Content-Range", shown)
        }
        None => Response::new("200 OK", bytes.clone()),
    };
    let length = response.body.len().to_string();
    response
        .with("Content-Length", length)
        .with("ETag", "\"tag\"")
        .with("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
}

fn list(objects: &Objects, query: &BTreeMap<String, String>) -> Response {
    let of = |name: &str| query.get(name).cloned().unwrap_or_default();
    let (prefix, delimiter, after) = (of("prefix"), of("delimiter"), of("start-after"));
    let (mut contents, mut folders) = (String::new(), Vec::new());
    for (key, bytes) in objects {
        let Some(below) = key.strip_prefix(&prefix) else { continue };
        if *key <= after {
            continue;
        }
        if let (false, Some((folder, _))) = (delimiter.is_empty(), below.split_once('/')) {
            folders.push(format!("{prefix}{folder}/"));
            continue;
        }
        let size = bytes.len();
        let _ = write!(
            contents,
            "<Contents><Key>{key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>\
             <ETag>\"tag\"</ETag><Size>{size}</Size></Contents>"
        );
    }
    folders.dedup();
    let folders: String = folders
        .iter()
        .map(|folder| format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"))
        .collect();
    Response::new("200 OK", format!("<ListBucketResult>{contents}{folders}</ListBucketResult>"))
}

fn delete(objects: &mut Objects, body: &[u8]) -> Response {
    let text = String::from_utf8_lossy(body).into_owned();
    let keys = text.split("<Key>").skip(1).filter_map(|part| part.split_once("</Key>"));
    let mut deleted = String::new();
    for (key, _) in keys {
        objects.remove(key);
        let _ = write!(deleted, "<Deleted><Key>{key}</Key></Deleted>");
    }
    Response::new("200 OK", format!("<DeleteResult>{deleted}</DeleteResult>"))
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let mut parts = line.split(' ');
    let (method, target) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let query = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), decoded(value))
    });
    Some(Request { method, path: path.to_owned(), query: query.collect(), headers, body })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let digits = std::str::from_utf8(&after[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}
