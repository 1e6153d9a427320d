//! Which store a URI means.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use weir_runtime::task;

use super::{Place, StoreError, StoreOperation};

/// How to reach a store, beside what the environment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// Another endpoint than the provider's own.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Allow HTTP without TLS.
    pub allow_http: bool,
    /// Put the bucket's name into the path (true) or into the host (false).
    pub path_style: Option<bool>,
    /// Credentials; without them the usual environment variables serve.
    pub credentials: Option<Credentials>,
}

/// An access key. Shows only its id.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The key's id.
    pub access_key_id: String,
    /// The key's secret.
    pub secret_access_key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// The client library's own repetitions: few, since callers repeat with what they know.
const CLIENT_RETRIES_MAX: usize = 2;
const CLIENT_RETRY_MAX: Duration = Duration::from_secs(10);
const CLIENT_REQUEST_MAX: Duration = Duration::from_secs(30);
const CLIENT_CONNECT_MAX: Duration = Duration::from_secs(5);

/// Stores of `memory://` URIs, by name: opened twice in a process, it is the same store.
static MEMORY: Mutex<BTreeMap<String, Arc<InMemory>>> = Mutex::new(BTreeMap::new());

/// Opens the folder that `uri` names: a plain path, `file://`, `memory://` or `s3://`. A local
/// folder is made when it is missing.
///
/// Nothing else is asked of the store: one that does not answer is found out at the first request.
pub async fn open(uri: &str, options: &StoreOptions) -> Result<Place, StoreError> {
    match Uri::parse(uri)? {
        Uri::Local(folder) => open_local(uri, folder, true).await,
        Uri::Memory { name, prefix } => Ok(open_memory(uri, name, prefix)),
        Uri::S3 { bucket, prefix } => open_s3(uri, &bucket, prefix, options),
    }
}

/// As [`open`], for reading: a missing local folder is an error.
pub async fn open_existing(uri: &str, options: &StoreOptions) -> Result<Place, StoreError> {
    match Uri::parse(uri)? {
        Uri::Local(folder) => open_local(uri, folder, false).await,
        Uri::Memory { .. } | Uri::S3 { .. } => open(uri, options).await,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Uri {
    Local(PathBuf),
    Memory { name: String, prefix: Path },
    S3 { bucket: String, prefix: Path },
}

impl Uri {
    fn parse(uri: &str) -> Result<Self, StoreError> {
        let bad = |what: &str| StoreError::BadUri { uri: uri.to_owned(), what: what.to_owned() };
        let Some((scheme, rest)) = uri.split_once("://") else {
            return if uri.is_empty() {
                Err(bad("it is empty"))
            } else {
                Ok(Self::Local(uri.into()))
            };
        };
        let (first, below) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = || Path::parse(below.trim_end_matches('/')).map_err(|e| bad(&e.to_string()));
        match scheme {
            "file" if !first.is_empty() && first != "localhost" => {
                Err(bad("a file URI names no host: file:///folder"))
            }
            "file" => {
                let path = decoded(below).ok_or_else(|| bad("its % escapes are no UTF-8 text"))?;
                Ok(Self::Local(PathBuf::from(format!("/{path}"))))
            }
            "memory" => Ok(Self::Memory { name: first.to_owned(), prefix: prefix()? }),
            "s3" if first.is_empty() => Err(bad("it names no bucket: s3://bucket/folder")),
            "s3" => Ok(Self::S3 { bucket: first.to_owned(), prefix: prefix()? }),
            "gs" | "az" => Err(bad("this kind of store is not built yet")),
            _ => Err(bad("known are plain paths, file://, s3:// and memory://")),
        }
    }
}

/// Text with its `%xx` escapes read.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escape = (*first == b'%').then(|| after.get(..2)).flatten();
        let escaped = escape
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

async fn open_local(uri: &str, folder: PathBuf, create: bool) -> Result<Place, StoreError> {
    let bad = |what: String| StoreError::BadUri { uri: uri.to_owned(), what };
    let opened = task::blocking(move || {
        let folder = std::path::absolute(folder)?;
        if create {
            std::fs::create_dir_all(&folder)?;
        }
        folder.canonicalize()
    });
    let folder = match opened.await.map_err(|error| bad(error.to_string()))? {
        Ok(folder) if folder.is_dir() => folder,
        Ok(_) => return Err(bad("it is no folder; name another".to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !create => {
            return Err(StoreError::Missing { uri: uri.to_owned() });
        }
        Err(error) if is_no_place(&error) => {
            return Err(bad(format!("no folder can be made there, name another: {error}")));
        }
        Err(error) => {
            let cause = object_store::Error::Generic { store: "local", source: Box::new(error) };
            let operation = if create { StoreOperation::Write } else { StoreOperation::Read };
            return Err(StoreError::classify(operation, uri.to_owned(), cause));
        }
    };
    let store = LocalFileSystem::new_with_prefix(&folder).map_err(|e| bad(e.to_string()))?;
    // Empty folders stay until a sweep: taking one away while another process is about to write in
    // it would fail that write.
    let store = store.with_fsync(true);
    let uri = folder.display().to_string();
    Ok(Place::new(Arc::new(store), Path::default(), uri).at(Some(folder)))
}

/// Whether it is the path that is wrong: a file is in the way, or nothing can be made there.
fn is_no_place(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::NotADirectory
            | ErrorKind::InvalidFilename
    )
}

fn open_memory(uri: &str, name: String, prefix: Path) -> Place {
    let mut stores = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let store: Arc<dyn ObjectStore> = Arc::clone(stores.entry(name).or_default()) as _;
    Place::new(store, prefix, uri.trim_end_matches('/'))
}

fn open_s3(
    uri: &str,
    bucket: &str,
    prefix: Path,
    options: &StoreOptions,
) -> Result<Place, StoreError> {
    let retry = RetryConfig {
        max_retries: CLIENT_RETRIES_MAX,
        retry_timeout: CLIENT_RETRY_MAX,
        ..RetryConfig::default()
    };
    let seconds = |limit: Duration| format!("{}s", limit.as_secs());
    // Set one by one: options as a whole would displace those of the environment.
    let client = AmazonS3ConfigKey::Client;
    let mut builder = AmazonS3Builder::from_env()
        .with_config(client(ClientConfigKey::Timeout), seconds(CLIENT_REQUEST_MAX))
        .with_config(client(ClientConfigKey::ConnectTimeout), seconds(CLIENT_CONNECT_MAX))
        .with_retry(retry)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_bucket_name(bucket);
    if options.allow_http {
        builder = builder.with_allow_http(true);
    }
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    if let Some(credentials) = &options.credentials {
        builder = builder
            .with_access_key_id(&credentials.access_key_id)
            .with_secret_access_key(&credentials.secret_access_key);
    }
    if let Some(path_style) = options.path_style {
        builder = builder.with_virtual_hosted_style_request(!path_style);
    }
    let what = |error: object_store::Error| error.to_string();
    let store = builder
        .build()
        .map_err(|error| StoreError::BadUri { uri: uri.to_owned(), what: what(error) })?;
    Ok(Place::new(Arc::new(store), prefix, uri.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_name_stores() {
        let parse = |uri: &str| Uri::parse(uri).unwrap();
        assert_eq!(parse("weir-data/x"), Uri::Local("weir-data/x".into()));
        assert_eq!(parse("file:///a%20b/c%zz"), Uri::Local("/a b/c%zz".into()));
        assert_eq!(
            parse("memory://"),
            Uri::Memory { name: String::new(), prefix: Path::default() }
        );
        let s3 = Uri::S3 { bucket: "b".into(), prefix: Path::from("x/y") };
        assert_eq!(parse("s3://b/x/y/"), s3);
    }

    #[test]
    fn bad_uris_are_refused_with_what_would_be_right() {
        let refused = |uri: &str| Uri::parse(uri).unwrap_err().to_string();
        assert!(refused("ftp://b/x").contains("s3:// and memory://"), "{}", refused("ftp://b/x"));
        assert!(refused("gs://b/x").contains("not built yet"));
        assert!(refused("s3:///x").contains("s3://bucket/folder"));
        assert!(refused("file://host/x").contains("file:///folder"));
        assert!(refused("").contains("empty"));
    }
}
