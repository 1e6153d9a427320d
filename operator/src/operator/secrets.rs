//! The secrets that the operator makes: a job's token and certificate, and the authority of each
//! namespace (docs/design/0012-transport-security.md). It gets secrets by name and never lists them.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use weir_engine::network::tls::{PeerName, Pem, Role};
use weir_runtime::{clock, random};

use super::names;
use crate::certificates::plan::{AUTHORITY_DAYS, CERTIFICATE_DAYS};
use crate::certificates::{Authority, CertificateError, issue, make_authority};
use crate::credentials::{Content, SecretSource, Unread};

/// How long what was read of a secret of a job is used without another look.
const SECRET_KEPT: Duration = Duration::from_secs(30);
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
    pub(crate) reference: OwnerReference,
}

/// What a coordinator shows to its workers.
pub(crate) struct Identity {
    pub(crate) pem: Pem,
    pub(crate) token: String,
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
    /// No certificate can be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Makes what is missing or old of a job's secret and its namespace's authority, and gives the
/// coordinator's own identity. Repeating it is harmless.
pub(crate) async fn identity(
    client: &Client,
    own_namespace: &str,
    owner: &Owner,
) -> Result<Identity, SecretError> {
    let now_seconds = clock::wall_ms() / 1_000;
    let authority = authority(client, own_namespace, &owner.namespace, now_seconds).await?;
    let name = names::job_secret(&owner.job);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &owner.namespace);
    let failed = |what, cause| api_error(&owner.namespace, &name, what, cause);
    let found = secrets.get_opt(&name).await.map_err(|cause| failed("read", cause))?;
    let token = found.as_ref().and_then(|found| text(found, TOKEN_KEY));
    let token = token.unwrap_or_else(|| format!("{}{}", random::id(), random::id()));
    let is_fresh = found.as_ref().is_some_and(|found| is_fresh(found, &authority, now_seconds));
    if !is_fresh {
        let pems = [Role::Worker, Role::Compactor]
            .map(|role| certificate(&authority, owner, role, now_seconds));
        let [worker, compactor] = pems;
        let secret = job_secret(owner, &name, &token, [worker?, compactor?], now_seconds);
        let parameters = PatchParams::apply(names::MANAGER).force();
        let patched = secrets.patch(&name, &parameters, &Patch::Apply(&secret)).await;
        patched.map_err(|cause| failed("written", cause))?;
    }
    let pem = certificate(&authority, owner, Role::Operator, now_seconds)?;
    Ok(Identity { pem, token })
}

/// The authority of a namespace; the first one who looks makes it.
async fn authority(
    client: &Client,
    own_namespace: &str,
    namespace: &str,
    now_seconds: i64,
) -> Result<Authority, SecretError> {
    let name = names::authority_secret(namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), own_namespace);
    let failed = |what, cause| api_error(own_namespace, &name, what, cause);
    let stored = |secret: &Secret| {
        let (certificate, key) = (text(secret, CERTIFICATE_KEY)?, text(secret, PRIVATE_KEY)?);
        Some(Authority { certificate, key })
    };
    let found = secrets.get_opt(&name).await.map_err(|cause| failed("read", cause))?;
    if let Some(authority) = found.as_ref().and_then(stored) {
        return Ok(authority);
    }
    let made = make_authority(namespace, now_seconds, AUTHORITY_DAYS)?;
    let content = [
        (CERTIFICATE_KEY, made.certificate.clone().into_bytes()),
        (PRIVATE_KEY, made.key.clone().into_bytes()),
    ];
    let metadata = ObjectMeta { labels: Some(labels()), ..ObjectMeta::default() };
    let secret = secret(&name, own_namespace, metadata, content);
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => Ok(made),
        // Somebody else was first: theirs it is.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let found = secrets.get(&name).await.map_err(|cause| failed("read", cause))?;
            let what = format!("secret {own_namespace}/{name} holds no authority");
            stored(&found).ok_or_else(|| CertificateError::Damaged { what }.into())
        }
        Err(cause) => Err(failed("created", cause)),
    }
}

fn certificate(
    authority: &Authority,
    owner: &Owner,
    role: Role,
    now_seconds: i64,
) -> Result<Pem, SecretError> {
    let name = PeerName { role, job: owner.job.clone(), namespace: owner.namespace.clone() };
    let trusted = [authority.certificate.as_str()];
    Ok(issue(authority, &name, &trusted, now_seconds, CERTIFICATE_DAYS)?)
}

/// Whether a job's secret can stay: whole, of this authority, and not beyond two thirds of its time.
fn is_fresh(secret: &Secret, authority: &Authority, now_seconds: i64) -> bool {
    let annotations = secret.metadata.annotations.as_ref();
    let issued = annotations.and_then(|all| all.get(names::ISSUED)?.parse::<i64>().ok());
    let is_young = issued.is_some_and(|issued| {
        let age = now_seconds.saturating_sub(issued);
        (0..i64::from(CERTIFICATE_DAYS) * 86_400 * 2 / 3).contains(&age)
    });
    let has = |key: &str| text(secret, key).is_some();
    is_young
        && has(TOKEN_KEY)
        && has(CERTIFICATE_KEY)
        && has(PRIVATE_KEY)
        && has(COMPACTOR_CERTIFICATE_KEY)
        && has(COMPACTOR_PRIVATE_KEY)
        && text(secret, AUTHORITIES_KEY).as_deref() == Some(&authority.certificate)
}

fn job_secret(
    owner: &Owner,
    name: &str,
    token: &str,
    [worker, compactor]: [Pem; 2],
    now_seconds: i64,
) -> Secret {
    let mut labels = labels();
    labels.insert(names::JOB.to_owned(), owner.job.clone());
    let metadata = ObjectMeta {
        labels: Some(labels),
        annotations: Some([(names::ISSUED.to_owned(), now_seconds.to_string())].into()),
        owner_references: Some(vec![owner.reference.clone()]),
        ..ObjectMeta::default()
    };
    let content = [
        (AUTHORITIES_KEY, worker.authorities),
        (CERTIFICATE_KEY, worker.certificate),
        (PRIVATE_KEY, worker.key),
        (COMPACTOR_CERTIFICATE_KEY, compactor.certificate),
        (COMPACTOR_PRIVATE_KEY, compactor.key),
        (TOKEN_KEY, token.as_bytes().to_vec()),
    ];
    secret(name, &owner.namespace, metadata, content)
}

fn secret<const N: usize>(
    name: &str,
    namespace: &str,
    metadata: ObjectMeta,
    content: [(&str, Vec<u8>); N],
) -> Secret {
    let data = content.into_iter().map(|(key, bytes)| (key.to_owned(), ByteString(bytes)));
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..metadata
        },
        data: Some(data.collect()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
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
