//! Which jobs are this operator's: jobs are spread over shards by the uid of their resource, and each
//! shard has a lease. Leases keep two operators out of each other's way; that nothing goes wrong when
//! both believe to hold one is the journal's business.
//!
//! Every holder also has a lease of its own, so that each knows how many there are and takes no more
//! than its share.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::{try_join, try_join_all};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, ListParams, PostParams};
use tokio::sync::watch;
use weir_runtime::clock::{self, Instant};
use xxhash_rust::xxh3::xxh3_64;

use super::meters::Meters;

/// Shards; their number is fixed, since operators of two versions share them during an upgrade.
pub(super) const SHARDS: u32 = 4;
/// A lease that was not renewed for this long is nobody's.
const LEASE_MAX: Duration = Duration::from_secs(15);
/// From renewal to renewal.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How long a renewal may take, and how soon one that failed is tried again: there is time for two.
const ROUND_MAX: Duration = Duration::from_millis(3_500);
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Without a renewal for this long a shard is let go: before another one can take it.
pub(super) const HOLD_MAX: Duration = Duration::from_secs(13);
const LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "weir");
const ROLE: &str = "weir.dev/lease";

/// The shard of a job.
pub(crate) fn shard(uid: &str) -> u32 {
    u32::try_from(xxh3_64(uid.as_bytes()) % u64::from(SHARDS)).unwrap_or_default()
}

/// The leases of one operator.
pub(crate) struct Leases {
    api: Api<Lease>,
    /// Tells this operator from the others.
    identity: String,
    /// The pod that it runs in.
    pod: Option<String>,
    held: watch::Sender<BTreeSet<u32>>,
    /// When the last round began that renewed them.
    renewed: Option<Instant>,
    meters: Meters,
}

/// A lease as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    name: String,
    holder: Option<String>,
    renewed: Option<Timestamp>,
    version: Option<String>,
    is_member: bool,
}

impl Found {
    fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let labels = lease.metadata.labels.clone().unwrap_or_default();
        Self {
            name: lease.metadata.name.clone().unwrap_or_default(),
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            renewed: spec.renew_time.map(|time| time.0),
            version: lease.metadata.resource_version.clone(),
            is_member: labels.get(ROLE).is_some_and(|role| role == "member"),
        }
    }

    /// A container is started again only when its former process has ended: what that one held is
    /// nobody's.
    fn forget_predecessor(&mut self, pod: &str, identity: &str) {
        let of_pod = |holder: &String| {
            let suffix = holder.strip_prefix(pod).and_then(|rest| rest.strip_prefix('-'));
            suffix.is_some_and(|suffix| !suffix.contains('-'))
        };
        if self.holder.as_ref().is_some_and(|holder| of_pod(holder) && holder != identity) {
            self.renewed = None;
        }
    }

    /// Whether its holder has renewed it lately, as far as two clocks can tell.
    fn is_live(&self, now: Timestamp) -> bool {
        let age = |renewed: Timestamp| now.as_millisecond() - renewed.as_millisecond();
        let limit = i64::try_from(LEASE_MAX.as_millis()).unwrap_or(i64::MAX);
        self.holder.is_some() && self.renewed.is_some_and(|renewed| age(renewed) < limit)
    }
}

/// What to do with the leases: those to take or renew, and those to let go. Pure.
fn choose(found: &[Found], identity: &str, now: Timestamp) -> (BTreeSet<u32>, BTreeSet<u32>) {
    let is_other = |its: &&Found| its.holder.as_deref() != Some(identity);
    let others = found.iter().filter(|its| its.is_member && its.is_live(now)).filter(is_other);
    let members = u32::try_from(others.count()).unwrap_or(SHARDS).saturating_add(1);
    let share = SHARDS.div_ceil(members) as usize;
    let of = |shard: u32| found.iter().find(|its| its.name == shard_name(shard));
    let holds = |shard: &u32| of(*shard).is_some_and(|its| its.holder.as_deref() == Some(identity));
    let is_free = |shard: &u32| of(*shard).is_none_or(|its| !its.is_live(now));
    let own: Vec<u32> = (0..SHARDS).filter(holds).collect();
    let free = (0..SHARDS).filter(|shard| !holds(shard) && is_free(shard));
    let wanted: BTreeSet<u32> = own.iter().copied().chain(free).take(share).collect();
    let let_go = own.into_iter().filter(|shard| !wanted.contains(shard)).collect();
    (wanted, let_go)
}

/// Finds the leases of operators, as against those of shards.
pub(super) fn members() -> ListParams {
    ListParams::default().labels(&format!("{ROLE}=member"))
}

/// Whether any of these is an operator's that is most likely there.
pub(super) fn has_live_member(leases: &[Lease], now: Timestamp) -> bool {
    leases.iter().map(Found::of).any(|found| found.is_member && found.is_live(now))
}

fn shard_name(shard: u32) -> String {
    format!("weir-shard-{shard}")
}

impl Leases {
    /// Of a process called `identity`: the name of its pod, if it is the only one there, and a suffix.
    pub(crate) fn new(
        api: Api<Lease>,
        identity: String,
        pod: Option<String>,
        meters: Meters,
    ) -> (Self, watch::Receiver<BTreeSet<u32>>) {
        let (held, shown) = watch::channel(BTreeSet::new());
        (Self { api, identity, pod, held, renewed: None, meters }, shown)
    }

    /// Takes and renews, for ever.
    pub(crate) async fn run(&mut self) {
        loop {
            let began = clock::now();
            let left = self.renewed.map(|its| (its + HOLD_MAX).saturating_duration_since(began));
            let left = left.filter(|left| !left.is_zero());
            if left.is_none() {
                self.hold(BTreeSet::new());
            }
            let round_max = left.map_or(ROUND_MAX, |left| left.min(ROUND_MAX));
            let pause = match clock::timeout(round_max, self.round()).await {
                Ok(Ok(())) => {
                    self.renewed = Some(began);
                    self.meters.leases_renewed();
                    RENEW_EVERY
                }
                Ok(Err(error)) => self.failed(&format!("leases cannot be renewed: {error}")),
                Err(_) => self.failed("leases cannot be renewed in time"),
            };
            clock::sleep(pause).await;
        }
    }

    fn failed(&self, why: &str) -> Duration {
        tracing::warn!("{why}");
        self.meters.leases_failed();
        RETRY_AFTER
    }

    /// Lets go of all, so that another one need not wait.
    pub(crate) async fn release(&mut self) {
        self.hold(BTreeSet::new());
        let Ok(found) = self.found().await else { return };
        let own = found.iter().filter(|its| its.holder.as_deref() == Some(&self.identity));
        for lease in own {
            if lease.is_member {
                let _ = self.api.delete(&lease.name, &kube::api::DeleteParams::default()).await;
            } else if let Err(error) = self.write(&lease.name, Some(lease), "").await {
                tracing::info!(lease = lease.name, "not released: {error}");
            }
        }
    }

    async fn found(&self) -> Result<Vec<Found>, kube::Error> {
        let parameters = ListParams::default().labels(ROLE);
        Ok(self.api.list(&parameters).await?.items.iter().map(Found::of).collect())
    }

    async fn round(&mut self) -> Result<(), kube::Error> {
        let mut found = self.found().await?;
        if let Some(pod) = &self.pod {
            found.iter_mut().for_each(|its| its.forget_predecessor(pod, &self.identity));
        }
        let now = super::now();
        let by_name = |name: &str| found.iter().find(|its| its.name == name);
        let own = format!("weir-member-{}", self.identity);
        let (wanted, let_go) = choose(&found, &self.identity, now);
        let this = &*self;
        let take = |shard: u32| async move {
            let name = shard_name(shard);
            match this.write(&name, by_name(&name), &this.identity).await {
                Ok(()) => Ok(Some(shard)),
                // Somebody else was quicker.
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
                Err(error) => Err(error),
            }
        };
        // Together: a busy API server answers each of them late.
        let member = this.write(&own, by_name(&own), &this.identity);
        let shards = try_join_all(wanted.into_iter().map(take));
        let ((), held) = try_join(member, shards).await?;
        self.hold(held.into_iter().flatten().collect());
        for shard in let_go {
            let name = shard_name(shard);
            self.write(&name, by_name(&name), "").await?;
        }
        self.drop_dead(&found, now).await;
        Ok(())
    }

    /// Members that are long gone leave a lease behind.
    async fn drop_dead(&self, found: &[Found], now: Timestamp) {
        for dead in found.iter().filter(|its| its.is_member && !its.is_live(now)) {
            if dead.holder.as_deref() != Some(&self.identity) {
                let _ = self.api.delete(&dead.name, &kube::api::DeleteParams::default()).await;
            }
        }
    }

    fn hold(&self, held: BTreeSet<u32>) {
        self.held.send_if_modified(|shown| {
            let differs = *shown != held;
            if differs {
                tracing::info!("shards held: {held:?}");
                *shown = held;
            }
            differs
        });
    }

    /// Writes a lease unless it has changed since it was found.
    async fn write(
        &self,
        name: &str,
        before: Option<&Found>,
        holder: &str,
    ) -> Result<(), kube::Error> {
        let now = super::now();
        let role = if name.starts_with("weir-member-") { "member" } else { "shard" };
        let labels = [(LABEL.0, LABEL.1), (ROLE, role)];
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                resource_version: before.and_then(|its| its.version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: i32::try_from(LEASE_MAX.as_secs()).ok(),
                renew_time: Some(MicroTime(now)),
                ..LeaseSpec::default()
            }),
        };
        let parameters = PostParams::default();
        match before {
            Some(_) => self.api.replace(name, &parameters, &lease).await.map(drop),
            None => self.api.create(&parameters, &lease).await.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    use axum::http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::json;
    use weir_runtime::task;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn lease(name: String, holder: &str, renewed: i64) -> Found {
        Found {
            is_member: name.starts_with("weir-member-"),
            name,
            holder: Some(holder.to_owned()).filter(|holder| !holder.is_empty()),
            renewed: Some(at(renewed)),
            version: None,
        }
    }

    fn member(name: &str, renewed: i64) -> Found {
        lease(format!("weir-member-{name}"), name, renewed)
    }

    fn set(shards: &[u32]) -> BTreeSet<u32> {
        shards.iter().copied().collect()
    }

    /// A round that hangs while a thousand jobs begin made an operator drop all of them, and begin
    /// them again.
    #[tokio::test(start_paused = true)]
    async fn a_round_that_hangs_drops_no_job_and_all_are_dropped_before_somebody_else_takes_them() {
        let (hangs, answered) =
            (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(clock::now())));
        let (is_away, last) = (Arc::clone(&hangs), Arc::clone(&answered));
        let server = tower::service_fn(move |request: Request<Body>| {
            let is_away = is_away.load(Ordering::SeqCst);
            let body = match request.method().as_str() {
                "GET" => json!({"metadata": {}, "items": []}),
                _ => json!({"metadata": {}}),
            };
            let last = Arc::clone(&last);
            async move {
                if is_away {
                    std::future::pending::<()>().await;
                }
                *last.lock().unwrap() = clock::now();
                Response::builder().body(Body::from(body.to_string().into_bytes()))
            }
        });
        let api = Api::namespaced(Client::new(server, "own"), "own");
        let (mut leases, mut held) = Leases::new(api, "a".to_owned(), None, Meters::default());
        let _running = task::spawn(async move { leases.run().await });
        held.wait_for(|held| held.len() == 4).await.unwrap();

        held.borrow_and_update();
        hangs.store(true, Ordering::SeqCst);
        clock::sleep(RENEW_EVERY + ROUND_MAX + RETRY_AFTER / 2).await;
        hangs.store(false, Ordering::SeqCst);
        clock::sleep(Duration::from_secs(20)).await;
        assert!(!held.has_changed().unwrap(), "one round hung: {:?}", held.borrow());

        hangs.store(true, Ordering::SeqCst);
        held.wait_for(BTreeSet::is_empty).await.unwrap();
        let without = clock::now() - *answered.lock().unwrap();
        assert!(without < LEASE_MAX, "let go after {without:?}");
        assert!(without > 2 * ROUND_MAX + RENEW_EVERY, "tried once only: {without:?}");
    }

    #[test]
    fn one_alone_takes_all() {
        assert_eq!(choose(&[], "a", at(100)), (set(&[0, 1, 2, 3]), set(&[])));
    }

    #[test]
    fn a_second_one_gets_its_share() {
        let mut found: Vec<Found> = (0..4).map(|shard| lease(shard_name(shard), "a", 99)).collect();
        found.extend([member("a", 99), member("b", 99)]);
        assert_eq!(choose(&found, "b", at(100)), (set(&[]), set(&[])), "all are held");
        assert_eq!(choose(&found, "a", at(100)), (set(&[0, 1]), set(&[2, 3])));
        found[2].holder = None;
        found[3].holder = None;
        assert_eq!(choose(&found, "b", at(100)), (set(&[2, 3]), set(&[])));
    }

    #[test]
    fn what_the_former_process_of_the_same_pod_held_is_taken_at_once() {
        let mut found: Vec<Found> =
            (0..4).map(|shard| lease(shard_name(shard), "pod-1-old", 99)).collect();
        found.extend([member("pod-1-old", 99), member("pod-12-x", 99)]);
        found.iter_mut().for_each(|its| its.forget_predecessor("pod-1", "pod-1-new"));
        assert_eq!(choose(&found, "pod-1-new", at(100)), (set(&[0, 1]), set(&[])));
        found[0].holder = Some("pod-12-x".to_owned());
        found[0].renewed = Some(at(99));
        found.iter_mut().for_each(|its| its.forget_predecessor("pod-1", "pod-1-new"));
        assert_eq!(choose(&found, "pod-1-new", at(100)), (set(&[1, 2]), set(&[])), "another pod");
    }

    #[test]
    fn what_a_dead_one_held_is_taken_over() {
        let mut found: Vec<Found> = (0..4).map(|shard| lease(shard_name(shard), "a", 80)).collect();
        found.extend([member("a", 80), member("b", 99)]);
        assert_eq!(choose(&found, "b", at(94)), (set(&[]), set(&[])), "it may still live");
        assert_eq!(choose(&found, "b", at(95)), (set(&[0, 1, 2, 3]), set(&[])));
    }
}
