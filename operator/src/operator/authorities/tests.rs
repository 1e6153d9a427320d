//! Secrets as they are written against an API server that is a map: what is made, healed and refused,
//! who is first, and what older versions have stored.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::json;
use weir_engine::network::tls::{Role, Tls, is_taken};

use self::api::FakeApi;
use super::*;
use crate::certificates::plan::Step;
use crate::certificates::times::Times;
use crate::operator::secrets::authority::Kept;

mod api;
mod connections;
mod life;

pub(super) const OWN: &str = "weir-system";
/// As a version that knew no rotation has stored it: one authority, which counts until 2027-11-21, and
/// the secret of job shop/flights.
const OLD_AUTHORITY: &str = include_str!("tests/old-authority.json");
const OLD_JOB: &str = include_str!("tests/old-job.json");

pub(super) fn times() -> Times {
    let seconds = Duration::from_secs;
    Times::new(seconds(365 * 86_400), seconds(90 * 86_400), seconds(600)).unwrap()
}

fn issuing(api: &FakeApi, times: Times) -> Issuing {
    Issuing { client: api.client(), own_namespace: OWN.to_owned(), times }
}

pub(super) fn owner(job: &str) -> Owner {
    Owner {
        namespace: "shop".to_owned(),
        job: job.to_owned(),
        reference: Some(crate::operator::template::owner(job, &format!("uid-{job}"))),
    }
}

pub(super) fn authority_path() -> String {
    format!("/api/v1/namespaces/{OWN}/secrets/weir-authority-shop")
}

pub(super) fn job_path(job: &str) -> String {
    format!("/api/v1/namespaces/shop/secrets/{job}-weir-tls")
}

fn kept(api: &FakeApi) -> Kept {
    Kept::read(&api.secret(&authority_path()).unwrap()).unwrap()
}

fn part(secret: &Secret, key: &str) -> Vec<u8> {
    secret.data.as_ref().unwrap()[key].0.clone()
}

/// Whether what two have lets them speak to each other.
fn agree(identity: &Identity, secret: &Secret) -> bool {
    let now = now_seconds();
    is_taken(&part(secret, "tls.crt"), &identity.pem.authorities, now)
        && is_taken(&identity.pem.certificate, &part(secret, "ca.crt"), now)
}

#[tokio::test]
async fn the_first_look_makes_all_there_is_and_the_next_one_writes_nothing() {
    let api = FakeApi::default();
    let issuing = issuing(&api, times());
    let first = issuing.identity(&owner("flights"), None).await.unwrap();
    let secret = api.secret(&job_path("flights")).unwrap();
    assert!(agree(&first, &secret));
    assert_eq!(secret.owner_references()[0].uid, "uid-flights");
    assert_eq!(Tls::new(&first.pem).unwrap().name().role, Role::Operator);
    let before = api.version();
    let again = issuing.identity(&owner("flights"), Some(&first.token)).await.unwrap();
    assert_eq!((api.version(), &again.token), (before, &first.token));
    assert_eq!(again.version, first.version);
    let other = issuing.identity(&owner("trains"), None).await.unwrap();
    assert_eq!(other.version, first.version, "one authority for the namespace");
    assert_ne!(other.token, first.token);
}

#[tokio::test]
async fn what_an_older_version_has_stored_stays_as_it_is_and_can_be_followed() {
    let api = FakeApi::default();
    api.put(&authority_path(), serde_json::from_str(OLD_AUTHORITY).unwrap());
    api.put(&job_path("flights"), serde_json::from_str(OLD_JOB).unwrap());
    let old: Secret = serde_json::from_str(OLD_AUTHORITY).unwrap();
    let kept = Kept::read(&old).unwrap();
    let current = kept.current.as_ref().expect("it is whole");
    assert_eq!(current.validity.until_seconds, 1_795_219_200 + 365 * 86_400);
    assert!(kept.next.is_none() && kept.previous.is_none() && !kept.seen().is_asked);
    let job: Secret = serde_json::from_str(OLD_JOB).unwrap();
    let fresh = |now| {
        let owner = owner("flights");
        crate::operator::secrets::job::freshness(&job, &owner, None, &kept, &times(), now)
    };
    // It goes on as it is; a compactor's certificate comes beside it when it is renewed.
    let day = 86_400;
    assert_eq!(fresh(1_795_219_200 + 89 * day), Freshness::Due);
    assert_eq!(fresh(1_795_219_200 + 90 * day), Freshness::Stale);
    // A step keeps what the older version reads.
    let make = || crate::certificates::make_authority("shop", times().authority(1_795_219_200));
    let after = kept.after(Step::AddNext, make).unwrap();
    let mut secret = old.clone();
    after.put_into(&mut secret);
    assert_eq!(part(&secret, "tls.crt"), part(&old, "tls.crt"));
    assert_eq!(part(&secret, "tls.key"), part(&old, "tls.key"));
    assert_eq!(Kept::read(&secret).unwrap(), after);
    assert!(secret.annotations().contains_key("weir.dev/authority-format"));
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let mut secret: Secret = serde_json::from_str(OLD_AUTHORITY).unwrap();
    secret.annotations_mut().insert("weir.dev/authority-format".to_owned(), "2".to_owned());
    let told = Kept::read(&secret).unwrap_err().to_string();
    assert_eq!(
        told,
        "secret weir-authority-shop has format 2, written by a newer Weir; this one reads 1"
    );
}

#[tokio::test]
async fn what_was_broken_by_hand_is_made_again_with_the_token_that_workers_have() {
    let api = FakeApi::default();
    let issuing = issuing(&api, times());
    let first = issuing.identity(&owner("flights"), None).await.unwrap();
    let path = job_path("flights");
    let whole = api.get(&path).unwrap();
    let breaks: [(&str, serde_json::Value); 9] = [
        ("/data/ca.crt", json!("aGVsbG8=")),
        ("/data/tls.crt", whole["data"]["ca.crt"].clone()),
        ("/data/tls.key", json!("aGVsbG8=")),
        ("/data/compactor.crt", whole["data"]["tls.crt"].clone()),
        ("/data/compactor.key", json!("")),
        ("/data/token", json!("aGVsbG8=")),
        ("/data/token", json!("")),
        ("/data", json!({})),
        ("/metadata/ownerReferences", json!([])),
    ];
    for (what, value) in breaks {
        api.change(&path, |secret| *secret.pointer_mut(what).unwrap() = value.clone());
        let healed = issuing.identity(&owner("flights"), Some(&first.token)).await.unwrap();
        let secret = api.secret(&path).unwrap();
        assert!(agree(&healed, &secret) && healed.token == first.token, "{what}");
        assert_eq!(part(&secret, "token"), first.token.as_bytes(), "{what}");
        assert_eq!(secret.owner_references()[0].uid, "uid-flights", "{what}");
        assert_eq!(healed.version, first.version, "{what}");
    }
    api.delete(&path);
    let healed = issuing.identity(&owner("flights"), Some(&first.token)).await.unwrap();
    assert!(agree(&healed, &api.secret(&path).unwrap()) && healed.token == first.token);
    // A label of somebody else's stays.
    api.change(&path, |secret| secret["metadata"]["labels"]["team"] = json!("blue"));
    api.change(&path, |secret| secret["data"]["ca.crt"] = json!(""));
    issuing.identity(&owner("flights"), None).await.unwrap();
    assert_eq!(api.secret(&path).unwrap().labels()["team"], "blue");
}

#[tokio::test]
async fn an_authority_that_cannot_issue_is_begun_anew_and_all_follow() {
    let api = FakeApi::default();
    let issuing = issuing(&api, times());
    let path = authority_path();
    let mut had = issuing.identity(&owner("flights"), None).await.unwrap();
    let breaks: [fn(&FakeApi, &str); 4] = [
        |api, path| api.delete(path),
        |api, path| api.change(path, |secret| secret["data"]["tls.key"] = json!("aGVsbG8=")),
        |api, path| api.change(path, |secret| secret["data"] = json!({"other": "aGVsbG8="})),
        |api, path| api.put(path, serde_json::from_str(OLD_AUTHORITY).unwrap()),
    ];
    for harm in breaks {
        harm(&api, &path);
        let healed = issuing.identity(&owner("flights"), Some(&had.token)).await.unwrap();
        let secret = api.secret(&job_path("flights")).unwrap();
        assert!(agree(&healed, &secret) && !agree(&had, &secret), "what it issued is nobody's");
        assert_eq!((kept(&api).count(), &healed.token), (1, &had.token));
        had = healed;
    }
}

#[tokio::test]
async fn of_two_who_begin_at_once_one_is_first_and_both_have_the_same() {
    let api = FakeApi::default();
    let (one, two) = (issuing(&api, times()), issuing(&api, times()));
    let (ours, same) = (owner("flights"), owner("flights"));
    let (a, b) = tokio::join!(one.identity(&ours, None), two.identity(&same, None));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!((&a.version, &a.token), (&b.version, &b.token));
    let secret = api.secret(&job_path("flights")).unwrap();
    assert!(agree(&a, &secret) && agree(&b, &secret));
}

/// Whoever decided from what has changed since writes nothing.
#[tokio::test]
async fn a_step_from_authorities_of_another_time_is_refused() {
    let api = FakeApi::default();
    let issuing = issuing(&api, times());
    let late = issuing.authorities("shop").await.unwrap();
    let quick = issuing.authorities("shop").await.unwrap();
    assert!(issuing.step("shop", quick, Step::AddNext).await.unwrap().is_some());
    let before = api.get(&authority_path());
    assert!(issuing.step("shop", late, Step::AddNext).await.unwrap().is_none());
    assert_eq!(api.get(&authority_path()), before);
    let late = issuing.authorities("shop").await.unwrap();
    api.delete(&authority_path());
    assert!(issuing.step("shop", late, Step::Promote).await.unwrap().is_none(), "it is gone");
    assert!(api.get(&authority_path()).is_none());
}

#[tokio::test]
async fn a_namespace_helps_jobs_on_that_have_no_coordinator_and_makes_no_secret_of_theirs() {
    let api = FakeApi::default();
    let issuing = issuing(&api, times());
    issuing.identity(&owner("failed"), None).await.unwrap();
    for job in ["failed", "bare"] {
        api.add_pod("shop", job, &format!("{job}-0"));
    }
    let found = issuing.authorities("shop").await.unwrap();
    let found = issuing.step("shop", found, Step::AddNext).await.unwrap().unwrap();
    let meters = Meters::default();
    let mut tending = Tending {
        issuing: issuing.clone(),
        namespace: "shop".to_owned(),
        meter: meters.certificate("shop", None),
        settling: Settling::default(),
        show: watch::channel(None).0,
    };
    let waits = tending.has_settled(&found).await.unwrap().unwrap_err();
    assert_eq!(waits, "the secret of job bare");
    let secret = api.secret(&job_path("failed")).unwrap();
    assert_eq!(part(&secret, "ca.crt"), found.kept.trusted().into_bytes(), "it trusts both");
    assert_eq!(secret.owner_references()[0].uid, "uid-failed", "its owner is the same");
    assert!(api.get(&job_path("bare")).is_none());
    api.delete("/api/v1/namespaces/shop/pods/bare-0");
    let waits = tending.has_settled(&found).await.unwrap().unwrap_err();
    assert_eq!(waits, "1800 s", "and then until everybody has it");
}

#[test]
fn only_a_secret_that_was_never_written_again_is_as_it_was_created() {
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    let secret = |created: i64, written: &[i64]| -> Secret {
        let fields: Vec<_> = written
            .iter()
            .map(|time| json!({"manager": "m", "time": at(*time).to_string()}))
            .collect();
        let created = at(created).to_string();
        let metadata = json!({"creationTimestamp": created, "managedFields": fields});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    };
    assert!(is_as_created(&secret(100, &[100]), Some(at(100))));
    assert!(!is_as_created(&secret(100, &[100, 101]), Some(at(110))), "written later");
    assert!(!is_as_created(&secret(100, &[100]), Some(at(99))), "a pod is older");
    assert!(!is_as_created(&secret(100, &[]), Some(at(110))), "nobody knows");
    assert!(!is_as_created(&secret(100, &[100]), None));
}
