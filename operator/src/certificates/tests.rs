//! Certificates are what rustls takes, and each state of a namespace's authorities has its step.

use std::time::Duration;

use weir_engine::network::tls::{Role, Tls, is_taken};

use super::dates::{Validity, validity};
use super::plan::{Seen, Step, When, plan};
use super::times::Times;
use super::*;

const DAY: i64 = 86_400;
/// 2026-11-21.
const NOW: i64 = 1_795_219_200;

fn times() -> Times {
    let days = |days: u64| Duration::from_secs(days * 86_400);
    Times::new(days(360), days(90), Duration::from_secs(600)).unwrap()
}

fn worker() -> PeerName {
    let (job, namespace) = ("flights".to_owned(), "shop".to_owned());
    PeerName { role: Role::Worker, job, namespace }
}

#[test]
fn what_is_issued_names_its_owner_and_has_the_dates_that_were_asked_for() {
    let whole = times().authority(NOW);
    let authority = make_authority("shop", whole).unwrap();
    let other = make_authority("shop", whole).unwrap();
    let trusted = [authority.certificate.as_str(), other.certificate.as_str()].concat();
    let dates = times().certificate(NOW, whole);
    let pem = issue(&authority, &worker(), &trusted, dates).unwrap();
    assert_eq!(*Tls::new(&pem).unwrap().name(), worker());
    let expected = Validity { from_seconds: NOW - DAY, until_seconds: NOW + 90 * DAY };
    assert_eq!(validity(&pem.certificate).unwrap(), expected);
    let expected = Validity { from_seconds: NOW - DAY, until_seconds: NOW + 360 * DAY };
    assert_eq!(validity(&pem.authorities).unwrap(), expected);
    assert_ne!(authority.key, other.key);
    assert!(!format!("{pem:?} {authority:?}").contains("PRIVATE"), "keys are never shown");
}

#[test]
fn a_certificate_is_taken_by_those_who_trust_its_authority_while_it_counts() {
    let whole = times().authority(NOW);
    let [ours, theirs] = [(); 2].map(|()| make_authority("shop", whole).unwrap());
    let both = [theirs.certificate.as_str(), ours.certificate.as_str()].concat();
    let dates = times().certificate(NOW, whole);
    let pem = issue(&ours, &worker(), &both, dates).unwrap();
    let taken = |authorities: &str, at| is_taken(&pem.certificate, authorities.as_bytes(), at);
    assert!(taken(&ours.certificate, NOW) && taken(&both, NOW));
    assert!(taken(&both, NOW - DAY + 1) && !taken(&both, NOW - DAY - 1), "clocks differ");
    assert!(taken(&both, NOW + 90 * DAY - 1) && !taken(&both, NOW + 90 * DAY + 1));
    assert!(!taken(&theirs.certificate, NOW) && !taken("", NOW) && !taken("hello", NOW));
    assert!(!is_taken(ours.certificate.as_bytes(), both.as_bytes(), NOW), "an authority is nobody");
}

#[test]
fn an_authority_is_whole_with_its_own_key_alone() {
    let [ours, theirs] = [(); 2].map(|()| make_authority("shop", times().authority(NOW)).unwrap());
    assert!(ours.is_whole());
    let mixed = Authority { key: theirs.key.clone(), ..ours.clone() };
    let cut = Authority { certificate: ours.certificate[..200].to_owned(), ..ours.clone() };
    let no_key = Authority { key: "hello".to_owned(), ..ours };
    assert!(![mixed, cut, no_key].iter().any(Authority::is_whole));
}

#[test]
fn dates_behind_2049_are_read_too_and_damage_is_reported() {
    let late = 2_600_000_000;
    let authority = make_authority("shop", Validity::lasting(late, DAY)).unwrap();
    let dates = validity(authority.certificate.as_bytes()).unwrap();
    assert_eq!(dates, Validity { from_seconds: late - DAY, until_seconds: late + DAY });
    let cut = &authority.certificate.as_bytes()[..200];
    for text in [b"".as_slice(), b"hello", cut] {
        assert!(validity(text).is_err());
    }
    let empty = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    assert!(validity(empty).unwrap_err().to_string().starts_with("this is no certificate"));
}

/// Made on that day.
fn made(day: i64) -> Option<Validity> {
    Some(times().authority(day * DAY))
}

#[test]
fn each_state_of_the_authorities_has_its_step() {
    let steady = Seen { current: made(0), ..Seen::default() };
    let trusting = Seen { next: made(240), ..steady };
    let replacing = Seen { current: made(240), previous: made(0), ..Seen::default() };
    for (what, seen, day, step) in [
        ("nothing yet", Seen::default(), 0, Some((Step::Begin, When::Now))),
        ("steady", steady, 239, None),
        ("two thirds are over", steady, 240, Some((Step::AddNext, When::Now))),
        ("asked for", Seen { is_asked: true, ..steady }, 1, Some((Step::AddNext, When::Now))),
        ("nobody was there until it ended", steady, 360, Some((Step::Begin, When::Now))),
        ("of a clock that was ahead", steady, -2, Some((Step::Begin, When::Now))),
        ("a next one", trusting, 241, Some((Step::Promote, When::Settled))),
        (
            "a next one, and asked for again",
            Seen { is_asked: true, ..trusting },
            241,
            Some((Step::Promote, When::Settled)),
        ),
        ("it ended while the next one waited", trusting, 360, Some((Step::Promote, When::Now))),
        (
            "the next one was never used, and ended",
            Seen { next: made(-200), ..steady },
            200,
            Some((Step::AddNext, When::Now)),
        ),
        (
            "the next one is of a clock that was ahead",
            Seen { next: made(300), ..steady },
            241,
            Some((Step::AddNext, When::Now)),
        ),
        ("both have ended", trusting, 600, Some((Step::Begin, When::Now))),
        ("a previous one", replacing, 241, Some((Step::DropPrevious, When::Settled))),
        ("a previous one that has ended", replacing, 360, Some((Step::DropPrevious, When::Now))),
        (
            "asked for again before the previous one is gone",
            Seen { is_asked: true, ..replacing },
            241,
            Some((Step::DropPrevious, When::Settled)),
        ),
        (
            "three, by hand",
            Seen { next: made(240), ..replacing },
            241,
            Some((Step::DropPrevious, When::Settled)),
        ),
    ] {
        assert_eq!(plan(&seen, &times(), day * DAY), step, "{what}");
    }
}
