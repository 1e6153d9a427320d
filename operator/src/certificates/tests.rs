//! Certificates are what rustls takes, and the plan leads from one authority to the next without a
//! moment at which two processes that live would refuse each other.

use weir_engine::network::tls::{Role, Tls};

use super::dates::{Validity, validity};
use super::plan::{
    AUTHORITY_DAYS, AuthoritySeen, CERTIFICATE_DAYS, CertificateSeen, SETTLES_SECONDS, Seen, Step,
    look_again_seconds, plan,
};
use super::*;

const DAY: i64 = 86_400;
/// 2026-11-21.
const NOW: i64 = 1_795_219_200;

fn worker() -> PeerName {
    let (job, namespace) = ("flights".to_owned(), "shop".to_owned());
    PeerName { role: Role::Worker, job, namespace }
}

#[test]
fn what_is_issued_names_its_owner_and_has_the_dates_that_were_asked_for() {
    let authority = make_authority("shop", NOW, AUTHORITY_DAYS).unwrap();
    let other = make_authority("shop", NOW, AUTHORITY_DAYS).unwrap();
    let trusted = [authority.certificate.as_str(), other.certificate.as_str()];
    let pem = issue(&authority, &worker(), &trusted, NOW, CERTIFICATE_DAYS).unwrap();
    assert_eq!(*Tls::new(&pem).unwrap().name(), worker());
    let dates = Validity { from_seconds: NOW - 600, until_seconds: NOW + 90 * DAY };
    assert_eq!(validity(&pem.certificate).unwrap(), dates);
    let dates = Validity { from_seconds: NOW - 600, until_seconds: NOW + 365 * DAY };
    assert_eq!(validity(&pem.authorities).unwrap(), dates);
    assert_ne!(authority.key, other.key);
    assert!(!format!("{pem:?}").contains("PRIVATE"), "keys are never shown");
}

#[test]
fn dates_behind_2049_are_read_too_and_damage_is_reported() {
    let late = 2_600_000_000;
    let authority = make_authority("shop", late, 1).unwrap();
    let dates = validity(authority.certificate.as_bytes()).unwrap();
    assert_eq!(dates, Validity { from_seconds: late - 600, until_seconds: late + DAY });
    let cut = &authority.certificate.as_bytes()[..200];
    for text in [b"".as_slice(), b"hello", cut] {
        assert!(validity(text).is_err());
    }
    let empty = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    assert!(validity(empty).unwrap_err().to_string().starts_with("this is no certificate"));
}

fn made(at: i64, days: u32) -> Validity {
    Validity { from_seconds: at - 600, until_seconds: at + i64::from(days) * DAY }
}

fn authority(id: &str, at: i64) -> AuthoritySeen {
    AuthoritySeen { id: id.to_owned(), validity: made(at, AUTHORITY_DAYS) }
}

fn certificate(issuer: &str, trusted: &[&str], at: i64) -> CertificateSeen {
    CertificateSeen {
        name: worker(),
        validity: made(at, CERTIFICATE_DAYS),
        issuer: issuer.to_owned(),
        trusted: trusted.iter().map(|id| (*id).to_owned()).collect(),
    }
}

/// One authority, one certificate; each row changes what it is about.
fn steady() -> Seen {
    Seen {
        current: Some(authority("a", 0)),
        certificates: vec![certificate("a", &["a"], 0)],
        ..Seen::default()
    }
}

/// In the midst of a rotation: this certificate, and a next authority that was made `at`.
fn rotating(previous: Option<&str>, next: Option<&str>, its: CertificateSeen, at: i64) -> Seen {
    Seen {
        previous: previous.map(|id| authority(id, 0)),
        next: next.map(|id| authority(id, at)),
        certificates: vec![its],
        ..steady()
    }
}

const LATE: i64 = 300 * DAY;

fn check_steps(table: Vec<(&str, Seen, i64, Vec<Step>)>) {
    for (what, seen, now, steps) in table {
        assert_eq!(plan(&seen, now), steps, "{what}");
        assert!(look_again_seconds(&seen, now) > now, "{what}");
    }
}

#[test]
fn each_state_has_its_step() {
    let issue = || vec![Step::Issue(worker())];
    check_steps(vec![
        ("nothing yet", Seen::default(), 0, vec![Step::Begin]),
        (
            "a new job",
            Seen { missing: vec![worker()], certificates: vec![], ..steady() },
            DAY,
            issue(),
        ),
        ("steady", steady(), 59 * DAY, vec![]),
        ("two thirds are over", steady(), 60 * DAY, issue()),
        (
            "the authority is old",
            Seen { certificates: vec![certificate("a", &["a"], LATE)], ..steady() },
            LATE,
            vec![Step::AddNext],
        ),
        ("a year without an operator", steady(), 366 * DAY, vec![Step::Begin]),
        (
            "the same in the midst of a rotation",
            rotating(None, Some("b"), certificate("a", &["a"], 0), 364 * DAY),
            366 * DAY,
            vec![Step::Promote],
        ),
    ]);
}

#[test]
fn each_step_of_a_rotation_waits_for_the_one_before() {
    let issue = || vec![Step::Issue(worker())];
    let trust = || vec![Step::Trust(worker())];
    check_steps(vec![
        (
            "the next one is to be trusted",
            rotating(None, Some("b"), certificate("a", &["a"], LATE), LATE),
            LATE,
            trust(),
        ),
        (
            "it is trusted, but not for long enough",
            rotating(None, Some("b"), certificate("a", &["a", "b"], LATE), LATE),
            LATE + SETTLES_SECONDS - 1,
            vec![],
        ),
        (
            "it is trusted by all",
            rotating(None, Some("b"), certificate("a", &["a", "b"], LATE), LATE),
            LATE + SETTLES_SECONDS,
            vec![Step::Promote],
        ),
        (
            "long enough, but not by all",
            rotating(None, Some("b"), certificate("a", &["a"], LATE), LATE),
            LATE + DAY,
            trust(),
        ),
        (
            "what the previous one issued is renewed",
            rotating(Some("z"), None, certificate("z", &["z", "a"], DAY), 0),
            DAY,
            issue(),
        ),
        (
            "the new certificate may not have been seen",
            rotating(Some("z"), None, certificate("a", &["z", "a"], DAY), 0),
            DAY + 1,
            vec![],
        ),
        (
            "nobody needs the previous one",
            rotating(Some("z"), None, certificate("a", &["z", "a"], DAY), 0),
            DAY + SETTLES_SECONDS,
            vec![Step::DropPrevious],
        ),
        ("dropped", rotating(None, None, certificate("a", &["z", "a"], DAY), 0), 2 * DAY, trust()),
    ]);
}

/// Does what the plan says, as the operator does.
fn apply(seen: &mut Seen, step: &Step, now: i64, made: &mut u32) {
    let mut new = || {
        *made += 1;
        Some(authority(&format!("ca{made}"), now))
    };
    match step {
        Step::Begin => {
            (seen.current, seen.next, seen.previous) = (new(), None, None);
        }
        Step::AddNext => seen.next = new(),
        Step::Promote => {
            seen.previous = seen.current.take();
            seen.current = seen.next.take();
        }
        Step::DropPrevious => seen.previous = None,
        Step::Issue(_) | Step::Trust(_) => {
            let trusted = seen.trusted();
            let issuer = seen.current.as_ref().unwrap().id.clone();
            seen.missing.clear();
            match seen.certificates.first_mut() {
                Some(its) if matches!(step, Step::Trust(_)) => its.trusted = trusted,
                _ => {
                    let trusted: Vec<&str> = trusted.iter().map(String::as_str).collect();
                    seen.certificates = vec![certificate(&issuer, &trusted, now)];
                }
            }
        }
    }
}

/// Ten years, looked at when the plan says so. A process that still has what it had ten minutes ago
/// and one that has the newest always take each other.
#[test]
fn ten_years_of_rotation_never_part_those_that_are_a_little_behind() {
    let mut seen = Seen { missing: vec![worker()], ..Seen::default() };
    let mut history: Vec<(i64, CertificateSeen)> = Vec::new();
    let (mut now, mut made) = (0, 0);
    while now < 10 * 365 * DAY {
        loop {
            let steps = plan(&seen, now);
            let Some(step) = steps.first() else { break };
            apply(&mut seen, step, now, &mut made);
        }
        let its = seen.certificates[0].clone();
        history.push((now, its.clone()));
        let behind = history.iter().rev().find(|(at, _)| *at <= now - SETTLES_SECONDS);
        if let Some((_, old)) = behind {
            assert!(its.trusted.contains(&old.issuer), "at {now}: {its:?} refuses {old:?}");
            assert!(old.trusted.contains(&its.issuer), "at {now}: {old:?} refuses {its:?}");
            assert!(now < old.validity.until_seconds, "at {now}: {old:?} has expired");
        }
        now = look_again_seconds(&seen, now);
    }
    assert!((12..=17).contains(&made), "{made} authorities in ten years");
}
