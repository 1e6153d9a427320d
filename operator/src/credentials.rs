//! Credentials of object stores from Kubernetes secrets: read anew while they are used, so that a
//! rotated key needs no restart. A worker reads the folders that the kubelet keeps up to date, the
//! operator asks the API server. What is read is in no message, status or log.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::{AwsCredential, AwsCredentialProvider};
use tokio::sync::Mutex;
use weir_engine::objects::Secrets;
use weir_runtime::clock::{self, Instant};
use weir_runtime::task;

/// How long what was read of a mounted secret is used without another look.
const MOUNTED_KEPT: Duration = Duration::from_secs(5);
/// Keys of a secret.
const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// A secret's content by key.
pub(crate) type Content = BTreeMap<String, String>;

/// Why a secret is not there, without anything that is in it.
#[derive(Debug)]
pub(crate) enum Unread {
    /// There is none, or not the right one: somebody has to do something.
    Wrong(String),
    /// Whoever was asked does not answer: it may pass.
    Away(String),
}

/// Where secrets are read.
#[async_trait]
pub(crate) trait SecretSource: Send + Sync + 'static {
    /// The content of a secret.
    async fn read(&self, name: &str) -> Result<Content, Unread>;

    /// How long what was read is used without another look.
    fn kept(&self) -> Duration;
}

/// Secrets of one source. All stores with the same secret share what was read of it.
pub(crate) struct SecretStore {
    source: Arc<dyn SecretSource>,
    providers: Lock<BTreeMap<String, AwsCredentialProvider>>,
}

impl SecretStore {
    pub(crate) fn new(source: Arc<dyn SecretSource>) -> Self {
        Self { source, providers: Lock::default() }
    }
}

impl Secrets for SecretStore {
    fn provider(&self, name: &str) -> AwsCredentialProvider {
        let mut providers = self.providers.lock().unwrap_or_else(PoisonError::into_inner);
        let provider = providers.entry(name.to_owned()).or_insert_with(|| {
            let (source, name) = (Arc::clone(&self.source), name.to_owned());
            Arc::new(Provider { source, name, kept: Mutex::default() })
        });
        Arc::clone(provider)
    }
}

/// The present credentials of one secret.
struct Provider {
    source: Arc<dyn SecretSource>,
    name: String,
    kept: Mutex<Option<(Instant, Arc<AwsCredential>)>>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("secret", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("secret {name}: {why}")]
struct NoCredential {
    name: String,
    why: String,
}

#[async_trait]
impl CredentialProvider for Provider {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut kept = self.kept.lock().await;
        let now = clock::now();
        if let Some((read, credential)) = &*kept
            && now < *read + self.source.kept()
        {
            return Ok(Arc::clone(credential));
        }
        let read = self.source.read(&self.name).await;
        let found = read.and_then(|content| credential(&content).map_err(Unread::Wrong));
        match (found, &*kept) {
            (Ok(credential), _) => {
                let credential = Arc::new(credential);
                *kept = Some((now, Arc::clone(&credential)));
                Ok(credential)
            }
            // A secret that is away for a while stops nobody who has read it.
            (Err(Unread::Wrong(why) | Unread::Away(why)), Some((_, credential))) => {
                let credential = Arc::clone(credential);
                tracing::warn!(secret = self.name, "its credentials are used on: {why}");
                *kept = Some((now, Arc::clone(&credential)));
                Ok(credential)
            }
            // Somebody has to do something: no request is tried again because of it.
            (Err(Unread::Wrong(why)), None) => {
                let path = format!("secret {}", self.name);
                let source = Box::new(NoCredential { name: self.name.clone(), why });
                Err(object_store::Error::Unauthenticated { path, source })
            }
            (Err(Unread::Away(why)), None) => {
                let source = Box::new(NoCredential { name: self.name.clone(), why });
                Err(object_store::Error::Generic { store: "secret", source })
            }
        }
    }
}

fn credential(content: &Content) -> Result<AwsCredential, String> {
    let value = |key: &str| {
        let value = content.get(key).map(|value| value.trim().to_owned());
        value.filter(|value| !value.is_empty())
    };
    let needed = |key: &str| value(key).ok_or_else(|| format!("it has no key {key}"));
    Ok(AwsCredential {
        key_id: needed(KEY_ID)?,
        secret_key: needed(SECRET_KEY)?,
        token: value(SESSION_TOKEN),
    })
}

/// Secrets that are mounted, each in a folder of its name.
pub(crate) struct FolderSecrets(pub(crate) PathBuf);

#[async_trait]
impl SecretSource for FolderSecrets {
    fn kept(&self) -> Duration {
        MOUNTED_KEPT
    }

    async fn read(&self, name: &str) -> Result<Content, Unread> {
        let folder = self.0.join(name);
        let read = task::blocking(move || {
            let mut content = Content::new();
            for key in [KEY_ID, SECRET_KEY, SESSION_TOKEN] {
                match std::fs::read_to_string(folder.join(key)) {
                    Ok(value) => drop(content.insert(key.to_owned(), value)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => {
                        return Err(Unread::Wrong(format!("key {key} cannot be read: {error}")));
                    }
                }
            }
            Ok(content)
        });
        read.await.map_err(|error| Unread::Away(error.to_string()))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn key_id(provider: &AwsCredentialProvider) -> Result<String, String> {
        let got = provider.get_credential().await;
        got.map(|got| got.key_id.clone()).map_err(|error| crate::exit::chain(&error))
    }

    struct Away;

    #[async_trait]
    impl SecretSource for Away {
        fn kept(&self) -> Duration {
            MOUNTED_KEPT
        }

        async fn read(&self, _name: &str) -> Result<Content, Unread> {
            Err(Unread::Away("connection reset".to_owned()))
        }
    }

    /// Who takes it for a refusal tells the user that his right manifest is wrong.
    #[tokio::test]
    async fn a_secret_that_cannot_be_asked_for_is_an_outage_and_a_missing_one_a_refusal() {
        let away = SecretStore::new(Arc::new(Away)).provider("keys").get_credential().await;
        assert!(weir_state::objects::is_outage(&away.unwrap_err()));
        let none = Arc::new(FolderSecrets(PathBuf::from("/nowhere")));
        let missing = SecretStore::new(none).provider("keys").get_credential().await.unwrap_err();
        assert!(matches!(missing, object_store::Error::Unauthenticated { .. }), "{missing}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rotated_key_is_read_and_a_lost_secret_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("keys");
        std::fs::create_dir(&secret).unwrap();
        let source = Arc::new(FolderSecrets(folder.path().to_owned()));
        let secrets = SecretStore::new(source);
        let provider = secrets.provider("keys");
        assert!(Arc::ptr_eq(&provider, &secrets.provider("keys")), "it would be read twice");
        let told = key_id(&provider).await.unwrap_err();
        assert!(told.contains("secret keys: it has no key AWS_ACCESS_KEY_ID"), "{told}");
        std::fs::write(secret.join(KEY_ID), "one\n").unwrap();
        std::fs::write(secret.join(SECRET_KEY), "hidden").unwrap();
        assert_eq!(key_id(&provider).await.unwrap(), "one");
        std::fs::write(secret.join(KEY_ID), "two").unwrap();
        assert_eq!(key_id(&provider).await.unwrap(), "one", "kept for a while");
        tokio::time::advance(MOUNTED_KEPT).await;
        assert_eq!(key_id(&provider).await.unwrap(), "two");
        std::fs::remove_dir_all(&secret).unwrap();
        tokio::time::advance(MOUNTED_KEPT).await;
        assert_eq!(key_id(&provider).await.unwrap(), "two");
        assert!(!format!("{provider:?}").contains("hidden"));
    }
}
