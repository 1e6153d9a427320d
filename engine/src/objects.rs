//! From a URI to the object store that holds it, behind a trait so that simulation has its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredentialProvider};
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use weir_state::objects::Place;

use crate::pipeline::spec::StoreSpec;

pub(crate) mod local;
pub mod retry;

/// The client's own repetitions: few, since `retry.rs` repeats as well.
const CLIENT_RETRIES_MAX: usize = 2;
const CLIENT_RETRY_MAX: Duration = Duration::from_secs(10);
const CLIENT_REQUEST_MAX: Duration = Duration::from_secs(30);
const CLIENT_CONNECT_MAX: Duration = Duration::from_secs(5);

/// Where a URI leads: a store, and a file or folder in it.
#[derive(Clone, Debug)]
pub struct Location {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The file or folder.
    pub path: Path,
}

/// A URI that leads nowhere; the message says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{uri}: {what}")]
pub struct OpenError {
    /// The URI as in the manifest.
    pub uri: String,
    /// What is wrong with it.
    pub what: String,
}

/// Opens the URIs of sources and sinks. Opening makes no request.
pub trait Objects: Send + Sync {
    /// Where `uri` (as in the manifest) leads.
    fn open(&self, uri: &str, store: &StoreSpec) -> Result<Location, OpenError>;

    /// The folder on the local disk that `uri` means, if it is one.
    fn local_folder(&self, uri: &str) -> Option<PathBuf> {
        let _ = uri;
        None
    }
}

/// Where a sink's `uri` leads, for clean-up.
pub fn place(objects: &dyn Objects, uri: &str, store: &StoreSpec) -> Result<Place, OpenError> {
    let Location { store, path } = objects.open(uri, store)?;
    Ok(Place::new(store, path, uri).at(objects.local_folder(uri)))
}

/// Whether both folders lie in one bucket that is reached in one way: then the store can copy from one
/// to the other by itself.
pub fn is_same_store(one: (&str, &StoreSpec), other: (&str, &StoreSpec)) -> bool {
    fn bucket(uri: &str) -> Option<&str> {
        let rest = uri.strip_prefix("s3://")?;
        Some(rest.split_once('/').map_or(rest, |(bucket, _)| bucket))
    }
    bucket(one.0).is_some() && bucket(one.0) == bucket(other.0) && one.1 == other.1
}

/// The stores of the real world: plain paths and `file://` on this machine, `s3://`.
#[derive(Clone, Debug)]
pub struct RealObjects {
    /// What relative paths are relative to.
    pub base_folder: PathBuf,
}

impl Objects for RealObjects {
    fn open(&self, uri: &str, store: &StoreSpec) -> Result<Location, OpenError> {
        let bad = |what: String| OpenError { uri: uri.to_owned(), what };
        let Some((scheme, rest)) = uri.split_once("://") else {
            if uri.is_empty() {
                return Err(bad("it is empty".to_owned()));
            }
            return local::open(&self.base_folder.join(uri)).map_err(bad);
        };
        match scheme {
            "file" => {
                let path = local::path_of_uri(rest)
                    .ok_or_else(|| bad("a file URI names no host: file:///folder".to_owned()))?;
                local::open(&path).map_err(bad)
            }
            "s3" => open_s3(rest, store, None).map_err(bad),
            "gs" | "az" => Err(bad("this kind of store is not built yet".to_owned())),
            _ => Err(bad("known are plain paths, file:// and s3://".to_owned())),
        }
    }

    fn local_folder(&self, uri: &str) -> Option<PathBuf> {
        match uri.split_once("://") {
            None => Some(self.base_folder.join(uri)),
            Some(("file", rest)) => local::path_of_uri(rest),
            Some(_) => None,
        }
    }
}

/// Where the credentials of a store lie.
pub trait Secrets: Send + Sync {
    /// Gives the present credentials of the secret `name`, each time that it is asked.
    fn provider(&self, name: &str) -> AwsCredentialProvider;
}

/// The stores of the real world as a process in a cluster sees them: credentials come from the
/// secret that stands beside a URI, not from the environment.
pub struct SecretObjects {
    /// Opens what has no secret.
    pub real: RealObjects,
    /// Where credentials are read.
    pub secrets: Arc<dyn Secrets>,
}

impl Objects for SecretObjects {
    fn open(&self, uri: &str, store: &StoreSpec) -> Result<Location, OpenError> {
        let (Some(rest), Some(secret)) = (uri.strip_prefix("s3://"), &store.secret) else {
            return self.real.open(uri, store);
        };
        let opened = open_s3(rest, store, Some(self.secrets.provider(secret)));
        opened.map_err(|what| OpenError { uri: uri.to_owned(), what })
    }

    fn local_folder(&self, uri: &str) -> Option<PathBuf> {
        self.real.local_folder(uri)
    }
}

/// Every URI is a path in one store: of the simulation, and of tests.
#[derive(Clone, Debug)]
pub struct OneStore(pub Arc<dyn ObjectStore>);

impl Objects for OneStore {
    fn open(&self, uri: &str, _store: &StoreSpec) -> Result<Location, OpenError> {
        let path = if uri == "." { "" } else { uri.trim_matches('/') };
        let path = Path::parse(path)
            .map_err(|cause| OpenError { uri: uri.to_owned(), what: cause.to_string() })?;
        Ok(Location { store: Arc::clone(&self.0), path })
    }
}

/// `rest` is `bucket/path`.
fn open_s3(
    rest: &str,
    spec: &StoreSpec,
    credentials: Option<AwsCredentialProvider>,
) -> Result<Location, String> {
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err("it names no bucket: s3://bucket/path".to_owned());
    }
    let path = Path::parse(path.trim_end_matches('/')).map_err(|cause| cause.to_string())?;
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
        .with_bucket_name(bucket);
    if spec.allow_http {
        builder = builder.with_allow_http(true);
    }
    if spec.path_style {
        builder = builder.with_virtual_hosted_style_request(false);
    }
    if let Some(endpoint) = &spec.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &spec.region {
        builder = builder.with_region(region);
    }
    if let Some(credentials) = credentials {
        builder = builder.with_credentials(credentials);
    }
    let store = builder.build().map_err(|cause| cause.to_string())?;
    Ok(Location { store: Arc::new(store), path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(uri: &str) -> String {
        let objects = RealObjects { base_folder: "/nowhere".into() };
        objects.open(uri, &StoreSpec::default()).unwrap_err().to_string()
    }

    #[test]
    fn uris_that_lead_nowhere_are_refused_with_what_would_be_right() {
        assert_eq!(refused("gs://b/x"), "gs://b/x: this kind of store is not built yet");
        assert_eq!(refused("ftp://b/x"), "ftp://b/x: known are plain paths, file:// and s3://");
        assert_eq!(refused("file://h/x"), "file://h/x: a file URI names no host: file:///folder");
        assert_eq!(refused("s3:///x"), "s3:///x: it names no bucket: s3://bucket/path");
        assert_eq!(refused(""), ": it is empty");
    }

    #[test]
    fn a_relative_uri_is_relative_to_the_base_folder() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir(base.path().join("data")).unwrap();
        let objects = RealObjects { base_folder: base.path().to_owned() };
        let location = objects.open("data/x y.parquet", &StoreSpec::default()).unwrap();
        assert_eq!(location.path.as_ref(), "x y.parquet");
    }
}
