//! A year of a namespace in simulation: two operators that die at any moment, whose clocks differ, and
//! whose requests are slow or fail; workers that see their secret late; jobs that come and go. At each
//! moment everybody takes everybody of the same job, and no authority comes near its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use weir_engine::network::tls::Pem;
use weir_runtime::{random, sim};

use super::*;
use crate::certificates::dates::validity;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

fn short_times() -> Times {
    let seconds = Duration::from_secs;
    Times::new(seconds(30 * DAY), seconds(6 * DAY), seconds(HOUR)).unwrap()
}

/// Seconds since 1970, by a clock that is right.
fn true_now() -> i64 {
    1_704_067_200 + sim::elapsed_ms() / 1_000
}

fn hours(count: u64) -> Duration {
    Duration::from_secs(count * HOUR)
}

fn seconds(from: u64, below: u64) -> Duration {
    Duration::from_secs(from + random::below(below - from))
}

fn pem_of(secret: &Secret) -> Pem {
    let part = |key| part(secret, key);
    Pem { authorities: part("ca.crt"), certificate: part("tls.crt"), key: part("tls.key") }
}

/// What each process holds.
#[derive(Clone, Default)]
struct Parties(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    /// By job and name.
    pems: BTreeMap<(String, String), Pem>,
    /// Pairs of certificate and authorities that were found to fit.
    fits: BTreeSet<(Vec<u8>, Vec<u8>)>,
    met: u64,
    /// How much later than a usual one a kubelet may be.
    late_seconds: u64,
    /// It is known that they can't meet now.
    is_blind: bool,
    /// The first pair that should take each other and does not.
    failed: Option<String>,
}

impl Parties {
    fn hold(&self, job: &str, who: &str, pem: &Pem) {
        let key = (job.to_owned(), who.to_owned());
        self.0.lock().unwrap().pems.insert(key, pem.clone());
        self.look(job);
    }

    fn leave(&self, job: &str, who: &str) {
        self.0.lock().unwrap().pems.remove(&(job.to_owned(), who.to_owned()));
    }

    fn blind(&self, is_blind: bool) {
        self.0.lock().unwrap().is_blind = is_blind;
    }

    /// All of a job take each other, now; or what fails is kept, since tasks can't fail a test.
    fn look(&self, job: &str) {
        let mut held = self.0.lock().unwrap();
        if held.is_blind || held.failed.is_some() {
            return;
        }
        let of_job = held.pems.iter().filter(|((its, _), _)| its == job);
        let all: Vec<(String, Pem)> =
            of_job.map(|((_, who), pem)| (who.clone(), pem.clone())).collect();
        let (now, minute) = (true_now(), sim::elapsed_ms() / 60_000);
        for (one, its) in &all {
            let dates = validity(&its.certificate).unwrap();
            if !dates.is_in_force(now) {
                held.failed = Some(format!("minute {minute}: {job}/{one} has expired: {dates:?}"));
            }
            for (other, others) in &all {
                let pair = (its.certificate.clone(), others.authorities.clone());
                held.met += 1;
                if !held.fits.contains(&pair) && !is_taken(&pair.0, &pair.1, now) {
                    held.failed =
                        Some(format!("minute {minute}: {job}/{other} refuses {job}/{one}"));
                }
                held.fits.insert(pair);
            }
        }
    }

    fn check(&self, jobs: &[&str]) {
        jobs.iter().for_each(|job| self.look(job));
        let failed = self.0.lock().unwrap().failed.clone();
        if let Some(failed) = failed {
            panic!("{failed}");
        }
    }
}

/// A worker's pod: it begins with what is there, and sees each change after up to 125 s.
async fn worker(api: FakeApi, parties: Parties, job: String, name: String) {
    let path = job_path(&job);
    let mut changed = api.subscribe();
    let secret = loop {
        // A kubelet waits for the secret.
        match api.secret(&path) {
            Some(secret) => break secret,
            None => drop(changed.changed().await),
        }
    };
    let mut version = secret.resource_version();
    parties.hold(&job, &name, &pem_of(&secret));
    loop {
        let its = api.get(&path).map(|its| its["metadata"]["resourceVersion"].clone());
        if its.is_none_or(|its| its.as_str() == version.as_deref()) {
            let _ = changed.changed().await;
            continue;
        }
        let late_seconds = parties.0.lock().unwrap().late_seconds;
        clock::sleep(seconds(1, 125 + late_seconds)).await;
        let Some(secret) = api.secret(&path) else { continue };
        version = secret.resource_version();
        parties.hold(&job, &name, &pem_of(&secret));
    }
}

/// A job's coordinator in an operator.
async fn coordinator(authorities: Authorities, parties: Parties, job: String, name: String) {
    let owner = owner(&job);
    let first = loop {
        match authorities.issuing.identity(&owner, None).await {
            Ok(identity) => break identity,
            Err(_) => clock::sleep(Duration::from_secs(5)).await,
        }
    };
    parties.hold(&job, &name, &first.pem);
    let take = |identity: &Identity| parties.hold(&job, &name, &identity.pem);
    authorities.renew(&owner, first, &Notify::new(), take).await;
}

/// An operator lives for a while, dies at any moment, and comes back. Two at once believe that all jobs
/// are theirs.
async fn operator(
    api: FakeApi,
    parties: Parties,
    name: &'static str,
    jobs: Arc<Mutex<Vec<String>>>,
) {
    for life in 0.. {
        // Within a day of any other clock.
        let skew_ms = random::below(20 * HOUR * 1_000).cast_signed() - 10 * 3_600_000;
        let process = sim::Process::new(format!("{name}-{life}"), skew_ms);
        let authorities = Authorities::new(issuing(&api, short_times()), Meters::default());
        let mut running = BTreeMap::new();
        let life_max = if random::below(3) == 0 { 3 * HOUR } else { 12 * DAY };
        let ends = clock::now() + seconds(HOUR, life_max);
        while clock::now() < ends {
            let present = jobs.lock().unwrap().clone();
            running.retain(|job, course: &mut tokio::task::JoinHandle<()>| {
                let stays = present.contains(job);
                if !stays {
                    course.abort();
                }
                stays
            });
            for job in present {
                running.entry(job.clone()).or_insert_with(|| {
                    let (authorities, parties) = (authorities.clone(), parties.clone());
                    process.spawn(coordinator(authorities, parties, job, name.to_owned()))
                });
            }
            clock::sleep(seconds(60, HOUR)).await;
        }
        process.kill();
        for job in running.keys() {
            parties.leave(job, name);
        }
        clock::sleep(seconds(10, 18 * HOUR)).await;
    }
}

/// A job of a few hours, again and again: the pods of the namespace never rest.
async fn short_jobs(api: FakeApi, parties: Parties, jobs: Arc<Mutex<Vec<String>>>) {
    for number in 0.. {
        let job = format!("short{number}");
        jobs.lock().unwrap().push(job.clone());
        // Its first coordinator makes its secret, and then its pod.
        while api.get(&job_path(&job)).is_none() {
            clock::sleep(Duration::from_secs(5)).await;
        }
        let pod = format!("{job}-0");
        api.add_pod("shop", &job, &pod);
        let work = task::spawn(worker(api.clone(), parties.clone(), job.clone(), pod.clone()));
        clock::sleep(seconds(HOUR, 10 * HOUR)).await;
        drop(work);
        jobs.lock().unwrap().retain(|its| *its != job);
        for who in [pod.as_str(), "one", "two"] {
            parties.leave(&job, who);
        }
        api.delete(&format!("/api/v1/namespaces/shop/pods/{pod}"));
        clock::sleep(seconds(10, HOUR)).await;
    }
}

/// A pod of a long job, replaced now and then.
async fn pods(api: FakeApi, parties: Parties, job: &'static str, place: u32) {
    for number in 0.. {
        let pod = format!("{job}-{place}-{number}");
        api.add_pod("shop", job, &pod);
        let work = worker(api.clone(), parties.clone(), job.to_owned(), pod.clone());
        let work = task::spawn(work);
        clock::sleep(seconds(DAY, 40 * DAY)).await;
        drop(work);
        parties.leave(job, &pod);
        api.delete(&format!("/api/v1/namespaces/shop/pods/{pod}"));
    }
}

/// Begins all of it.
fn begin(api: &FakeApi, parties: &Parties) -> Vec<Task<()>> {
    let jobs = Arc::new(Mutex::new(vec!["a".to_owned(), "b".to_owned()]));
    let mut tasks = Vec::new();
    for name in ["one", "two"] {
        let jobs = Arc::clone(&jobs);
        tasks.push(task::spawn(operator(api.clone(), parties.clone(), name, jobs)));
    }
    for (job, place) in [("a", 0), ("a", 1), ("a", 2), ("b", 0)] {
        tasks.push(task::spawn(pods(api.clone(), parties.clone(), job, place)));
    }
    tasks.push(task::spawn(short_jobs(api.clone(), parties.clone(), jobs)));
    tasks
}

/// Lives through a year; gives how many authorities there were.
async fn a_year() -> usize {
    let (api, parties) = (FakeApi::default(), Parties::default());
    let tasks = begin(&api, &parties);
    let (mut seen, mut hours_of_two) = (BTreeSet::new(), 0);
    for hour in 0..365 * 24 {
        clock::sleep(hours(1)).await;
        parties.check(&["a", "b"]);
        let Some(secret) = api.secret(&authority_path()) else { continue };
        let kept = Kept::read(&secret).unwrap();
        hours_of_two = if kept.count() > 1 { hours_of_two + 1 } else { 0 };
        assert!(hours_of_two < 6 * 24, "hour {hour}: a rotation is under way for six days");
        let all = kept.seen();
        for validity in [all.current, all.next, all.previous].into_iter().flatten() {
            let left = validity.until_seconds - true_now();
            assert!(left > 2 * 86_400, "hour {hour}: an authority ends in {left} s");
        }
        seen.insert(kept.current.unwrap().authority.certificate);
        if random::below(24 * 60) == 0 {
            let asked = json!(hour.to_string());
            api.change(&authority_path(), |secret| {
                secret["metadata"]["annotations"]["weir.dev/rotate"] = asked;
            });
        }
    }
    assert!(parties.0.lock().unwrap().met > 50_000, "nobody met");
    drop(tasks);
    seen.len()
}

#[test]
fn through_a_year_of_rotations_nobody_ever_refuses_anybody() {
    let seeds = if std::env::var_os("WEIR_TEST_ALL").is_some() { 40 } else { 2 };
    for seed in 0..seeds {
        let authorities = sim::run(seed, a_year());
        // One after 20 days each, and some that were asked for.
        assert!((17..40).contains(&authorities), "seed {seed}: {authorities} authorities");
    }
}

/// Nobody was there past the end of certificates, or of the authority: whoever comes back cures it, and
/// no process has to start again.
#[test]
fn an_operator_that_was_away_for_too_long_cures_it_when_it_is_back() {
    for (seed, days_away) in [(1, 7), (2, 7), (3, 29), (4, 29), (5, 31), (6, 200)] {
        sim::run(seed, away(days_away));
    }
}

async fn away(days: u64) {
    let (api, parties) = (FakeApi::default(), Parties::default());
    // These pods live on.
    let pods = ["a-0", "a-1"].map(|pod| {
        api.add_pod("shop", "a", pod);
        let work = worker(api.clone(), parties.clone(), "a".to_owned(), pod.to_owned());
        task::spawn(work)
    });
    let live = |name: &'static str| {
        let process = sim::Process::new(name, 0);
        let authorities = Authorities::new(issuing(&api, short_times()), Meters::default());
        let (job, who) = ("a".to_owned(), "one".to_owned());
        drop(process.spawn(coordinator(authorities, parties.clone(), job, who)));
        process
    };
    let first = live("first");
    // At some moment of a rotation, or after it.
    clock::sleep(hours(20 * 24) + seconds(1, 12 * HOUR)).await;
    parties.check(&["a"]);
    first.kill();
    parties.leave("a", "one");
    parties.blind(true);
    clock::sleep(hours(days * 24)).await;
    let _second = live("second");
    clock::sleep(hours(1)).await;
    parties.blind(false);
    // And from then on all goes its way.
    for _ in 0..20 * 24 {
        parties.check(&["a"]);
        clock::sleep(hours(1)).await;
    }
    let all = Kept::read(&api.secret(&authority_path()).unwrap()).unwrap().seen();
    for validity in [all.current, all.next, all.previous].into_iter().flatten() {
        assert!(validity.until_seconds > true_now(), "{days} days: {validity:?} remains");
    }
    drop(pods);
}

/// The simulation has teeth: it finds kubelets that are slower than what is waited for.
#[test]
#[should_panic(expected = "refuses")]
fn pods_that_see_their_secret_later_than_is_waited_for_are_found() {
    sim::run(1, async {
        let (api, parties) = (FakeApi::default(), Parties::default());
        parties.0.lock().unwrap().late_seconds = 8 * HOUR;
        let _tasks = begin(&api, &parties);
        for _ in 0..100 * 24 {
            clock::sleep(hours(1)).await;
            parties.check(&["a"]);
        }
    });
}
