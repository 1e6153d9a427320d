//! The secrets that the operator makes: a job's token and certificate, and the authorities of each
//! namespace (docs/design/0012-transport-security.md). It gets secrets by name and never lists them.
//!
//! - `secrets/authority.rs`, `secrets/job.rs` — what stands in them. Pure.
//!
//! What must stay true: each write says which version of its secret it was decided from, and the API
//! server refuses it when that is not the present one. A job's secret is read before the authorities
//! that it is written from: whoever is late and has old authorities meets a newer secret.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use weir_engine::network::tls::{Pem, Role};
use weir_runtime::{clock, random};

use self::authority::Kept;
use self::job::Freshness;
use super::{api, names};
use crate::certificates::dates::{Validity, validity};
use crate::certificates::plan::{Step, When, plan};
use crate::certificates::times::Times;
use crate::certificates::{CertificateError, make_authority};
use crate::credentials::{Content, SecretSource, Unread};

pub(crate) mod authority;
pub(crate) mod job;

/// How long what was read of a secret of a job is used without another look.
const SECRET_KEPT: Duration = Duration::from_secs(30);
/// How long a look at a job's certificates may take: what it decides from gets no older.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// How often others may be quicker before it is left to the next look.
const ATTEMPTS_MAX: usize = 8;
/// Key of the run's token in a job's secret.
pub(crate) const TOKEN_KEY: &str = "token";
pub(crate) const AUTHORITIES_KEY: &str = "ca.crt";
pub(crate) const CERTIFICATE_KEY: &str = "tls.crt";
pub(crate) const PRIVATE_KEY: &str = "tls.key";
pub(crate) const COMPACTOR_CERTIFICATE_KEY: &str = "compactor.crt";
pub(crate) const COMPACTOR_PRIVATE_KEY: &str = "compactor.key";

/// Whom a secret is for.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) namespace: String,
    pub(crate) job: String,
    /// None: its secret is neither made nor given to another owner.
    pub(crate) reference: Option<OwnerReference>,
}

/// What a coordinator shows to its workers.
pub(crate) struct Identity {
    pub(crate) pem: Pem,
    pub(crate) token: String,
    /// The dates of the workers' certificate.
    pub(crate) validity: Option<Validity>,
    /// The authorities that it was made from.
    pub(crate) version: String,
}

/// The authorities of a namespace, as they were found.
pub(crate) struct Found {
    pub(crate) kept: Kept,
    /// Tells them from those of other times.
    pub(crate) version: String,
    secret: Option<Secret>,
}

/// A job's secret, as it is after a look.
pub(crate) struct Looked {
    /// As it was found; none: there is none.
    pub(crate) before: Option<Secret>,
    pub(crate) freshness: Freshness,
    pub(crate) found: Found,
    token: String,
    certificate: Vec<u8>,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// The API server refuses.
    #[error("secret {namespace}/{name} cannot be {what}")]
    Api {
        /// Where.
        namespace: String,
        /// Which.
        name: String,
        /// What was tried.
        what: &'static str,
        /// Cause.
        #[source]
        cause: Box<kube::Error>,
    },
    /// Another version's.
    #[error("secret {name} has format {format}, written by a newer Weir; this one reads {known}")]
    Newer {
        /// Which.
        name: String,
        /// What it says.
        format: String,
        /// What is read.
        known: u32,
    },
    /// None can issue now; another look makes one.
    #[error("namespace {namespace} has no authority that counts now")]
    NoAuthority {
        /// Whose.
        namespace: String,
    },
    /// Others wrote, again and again.
    #[error("secret {name} is written by others all the time")]
    Contended {
        /// Which.
        name: String,
    },
    /// The API server is slow.
    #[error("the certificates of job {job} cannot be looked at in time")]
    Slow {
        /// Whose.
        job: String,
        /// Cause.
        #[source]
        cause: clock::Elapsed,
    },
    /// Whose secrets are in use cannot be seen.
    #[error("the pods of namespace {namespace} cannot be listed")]
    Pods {
        /// Where.
        namespace: String,
        /// Cause.
        #[source]
        cause: Box<kube::Error>,
    },
    /// No certificate can be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Makes authorities and certificates, and writes them into secrets.
#[derive(Clone)]
pub(crate) struct Issuing {
    pub(crate) client: Client,
    /// Where authorities lie.
    pub(crate) own_namespace: String,
    pub(crate) times: Times,
}

impl Issuing {
    /// Makes what is missing or old of a job's secret and its namespace's authority, and gives the
    /// coordinator's own identity. `token` is the one that it has already. Repeating it is harmless.
    pub(crate) async fn identity(
        &self,
        owner: &Owner,
        token: Option<&str>,
    ) -> Result<Identity, SecretError> {
        let looked = clock::timeout(LOOK_MAX, self.look_at_job(owner, token)).await;
        let slow = |cause| SecretError::Slow { job: owner.job.clone(), cause };
        let looked = looked.map_err(slow)??;
        let kept = &looked.found.kept;
        let pem = job::certificate(kept, owner, Role::Operator, &self.times, now_seconds())?;
        let validity = validity(&looked.certificate).ok();
        Ok(Identity { pem, token: looked.token, validity, version: looked.found.version })
    }

    /// Looks at a job's secret and makes it what it is to be, unless it is not there and nobody owns it.
    pub(crate) async fn look_at_job(
        &self,
        owner: &Owner,
        token: Option<&str>,
    ) -> Result<Looked, SecretError> {
        for _ in 0..ATTEMPTS_MAX {
            if let Some(looked) = self.try_look_at_job(owner, token).await? {
                return Ok(looked);
            }
        }
        Err(SecretError::Contended { name: names::job_secret(&owner.job) })
    }

    /// None: somebody else has written it meanwhile.
    async fn try_look_at_job(
        &self,
        owner: &Owner,
        token: Option<&str>,
    ) -> Result<Option<Looked>, SecretError> {
        let name = names::job_secret(&owner.job);
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &owner.namespace);
        let failed = |what, cause| api_error(&owner.namespace, &name, what, cause);
        let before = secrets.get_opt(&name).await.map_err(|cause| failed("read", cause))?;
        let found = self.authorities(&owner.namespace).await?;
        let now = now_seconds();
        let freshness = before.as_ref().map_or(Freshness::Stale, |before| {
            job::freshness(before, owner, token, &found.kept, &self.times, now)
        });
        let stored = |key| before.as_ref().and_then(|before| text(before, key));
        let token = token.map(str::to_owned).or_else(|| stored(TOKEN_KEY));
        let token = token.unwrap_or_else(|| format!("{}{}", random::id(), random::id()));
        let is_nobodys = before.is_none() && owner.reference.is_none();
        if freshness == Freshness::Fresh || is_nobodys {
            let certificate = stored(CERTIFICATE_KEY).unwrap_or_default().into_bytes();
            return Ok(Some(Looked { before, freshness, found, token, certificate }));
        }
        let pems = [Role::Worker, Role::Compactor]
            .map(|role| job::certificate(&found.kept, owner, role, &self.times, now));
        let [worker, compactor] = pems;
        let pems = [worker?, compactor?];
        let certificate = pems[0].certificate.clone();
        let secret = job::content(before.as_ref(), owner, &token, pems, now);
        let written = match &before {
            // A merge: it leaves alone what others have put there.
            Some(_) => {
                let parameters = PatchParams {
                    field_manager: Some(names::MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                secrets.patch(&name, &parameters, &Patch::Merge(&secret)).await
            }
            None => secrets.create(&api::by_us(), &secret).await,
        };
        match written {
            Ok(_) => Ok(Some(Looked { before, freshness, found, token, certificate })),
            Err(kube::Error::Api(status)) if is_conflict(status.code, before.is_some()) => Ok(None),
            Err(cause) => Err(failed("written", cause)),
        }
    }

    /// The authorities of a namespace, one of which can issue; the first one who looks makes it.
    pub(crate) async fn authorities(&self, namespace: &str) -> Result<Found, SecretError> {
        let name = names::authority_secret(namespace);
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.own_namespace);
        for _ in 0..ATTEMPTS_MAX {
            let secret = secrets.get_opt(&name).await;
            let secret =
                secret.map_err(|cause| api_error(&self.own_namespace, &name, "read", cause))?;
            let found = Found::of(secret)?;
            let due = plan(&found.kept.seen(), &self.times, now_seconds());
            let Some((step @ (Step::Begin | Step::Promote), When::Now)) = due else {
                return Ok(found);
            };
            if let Some(found) = self.step(namespace, found, step).await? {
                return Ok(found);
            }
        }
        Err(SecretError::Contended { name })
    }

    /// Takes a step, if the authorities are still those that were found.
    pub(crate) async fn step(
        &self,
        namespace: &str,
        found: Found,
        step: Step,
    ) -> Result<Option<Found>, SecretError> {
        let name = names::authority_secret(namespace);
        let dates = self.times.authority(now_seconds());
        let kept = found.kept.after(step, || make_authority(namespace, dates))?;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.own_namespace);
        let is_there = found.secret.is_some();
        let mut secret = found.secret.unwrap_or_else(|| Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(self.own_namespace.clone()),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        });
        kept.put_into(&mut secret);
        let written = match is_there {
            true => secrets.replace(&name, &api::by_us(), &secret).await,
            false => secrets.create(&api::by_us(), &secret).await,
        };
        match written {
            Ok(written) => {
                tracing::info!(namespace, "authority: {step:?}; {} trusted", kept.count());
                Found::of(Some(written)).map(Some)
            }
            Err(kube::Error::Api(status)) if is_conflict(status.code, is_there) => Ok(None),
            Err(cause) => Err(api_error(&self.own_namespace, &name, "written", cause)),
        }
    }
}

impl Found {
    fn of(secret: Option<Secret>) -> Result<Self, SecretError> {
        let kept = secret.as_ref().map(Kept::read).transpose()?.unwrap_or_default();
        let metadata = secret.as_ref().map(|secret| &secret.metadata);
        let version = metadata.map(|its| {
            let part = |part: &Option<String>| part.clone().unwrap_or_default();
            format!("{}/{}", part(&its.uid), part(&its.resource_version))
        });
        Ok(Self { kept, version: version.unwrap_or_default(), secret })
    }
}

/// Another version is there, another one was made, or the one that was found is gone.
fn is_conflict(code: u16, was_there: bool) -> bool {
    code == 409 || (was_there && code == 404)
}

pub(crate) fn now_seconds() -> i64 {
    clock::wall_ms() / 1_000
}

fn labels() -> BTreeMap<String, String> {
    [(names::MANAGED_BY.0.to_owned(), names::MANAGED_BY.1.to_owned())].into()
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok().filter(|text| !text.is_empty())
}

fn api_error(namespace: &str, name: &str, what: &'static str, cause: kube::Error) -> SecretError {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    SecretError::Api { namespace, name, what, cause: Box::new(cause) }
}

/// The secrets of a namespace, each by its name.
pub(crate) struct KubeSecrets(pub(crate) Api<Secret>);

#[async_trait::async_trait]
impl SecretSource for KubeSecrets {
    fn kept(&self) -> Duration {
        SECRET_KEPT
    }

    async fn read(&self, name: &str) -> Result<Content, Unread> {
        let found = self.0.get_opt(name).await.map_err(|error| match &error {
            kube::Error::Api(status) if status.code == 403 => Unread::Wrong(error.to_string()),
            _ => Unread::Away(error.to_string()),
        })?;
        let missing =
            || Unread::Wrong("there is none of this name in the job's namespace".to_owned());
        let found = found.ok_or_else(missing)?;
        let content = found.data.unwrap_or_default().into_iter();
        Ok(content
            .filter_map(|(key, bytes)| Some((key, String::from_utf8(bytes.0).ok()?)))
            .collect())
    }
}
