//! Checkpoints that somebody asked for.

use super::*;

fn answered(driver: &mut Driver) -> u64 {
    driver.machine.status(None).answered
}

/// What the record of the checkpoint that both acknowledge says was answered.
fn recorded(driver: &mut Driver, checkpoint: u64) -> u64 {
    driver.ack(checkpoint, 0);
    let effects = driver.ack(checkpoint, 1);
    let [Effect::RecordCheckpoint { id, totals, confirmed, .. }] = &effects[..] else {
        panic!("{effects:?}");
    };
    let (id, answered, confirmed) = (*id, totals.answered, confirmed.clone());
    driver.on(Event::CheckpointRecorded { id, pieces: vec![], confirmed });
    answered
}

#[test]
fn it_is_taken_at_once_and_answered_when_it_is_recorded() {
    let mut driver = Driver::running();
    driver.wait_ms(10);
    assert_eq!(driver.on(Event::Ask(7)), driver.triggered(1));
    assert_eq!(answered(&mut driver), 0);
    assert_eq!(recorded(&mut driver, 1), 7);
    assert_eq!(answered(&mut driver), 7);
    driver.confirm(0, 1, vec![]);
    driver.confirm(1, 1, vec![]);
    assert_eq!(driver.on(Event::Ask(7)), [], "the same wish is none");
    assert_eq!(driver.machine.deadline(), None, "an idle job waits for nothing");
    assert_eq!(driver.on(Event::Ask(8)), driver.triggered(2), "though nothing has changed");
}

#[test]
fn one_that_had_begun_before_answers_nothing_and_another_follows_it() {
    let mut driver = Driver::running();
    assert_eq!(driver.wait_ms(10_000), driver.triggered(1));
    assert_eq!(driver.on(Event::Ask(7)), []);
    driver.ack(1, 0);
    driver.ack(1, 1);
    let (id, pieces, confirmed) = (CheckpointId(1), vec![], vec![]);
    let effects = driver.on(Event::CheckpointRecorded { id, pieces, confirmed });
    assert_eq!(answered(&mut driver), 0);
    let triggered = driver.triggered(2);
    assert!(effects.ends_with(&triggered), "{effects:?}");
    assert_eq!(recorded(&mut driver, 2), 7);
}

#[test]
fn one_that_fails_is_taken_again_after_the_interval_and_not_in_a_loop() {
    let mut driver = Driver::running();
    driver.on(Event::Ask(7));
    let reason = "the store is away".to_owned();
    let declined = Declined { checkpoint: 1, reason };
    let effects = driver.says(0, to_coordinator::Body::Declined(declined));
    let triggered = driver.triggered(2);
    assert!(!effects.iter().any(|effect| triggered.contains(effect)), "{effects:?}");
    assert_eq!(driver.wait_ms(9_999), []);
    assert_eq!(driver.wait_ms(1), driver.triggered(2));
    assert_eq!(recorded(&mut driver, 2), 7);
}

#[test]
fn who_takes_over_does_not_take_it_again() {
    let totals = Totals { answered: 7, ..Totals::default() };
    let mut driver = Driver::new(Recorded { totals, ..Recorded::default() });
    driver.on(Event::Ask(7));
    driver.start();
    assert_eq!(answered(&mut driver), 7);
    assert_eq!(driver.wait_ms(9_000), []);
    assert_eq!(driver.wait_ms(1_000), driver.triggered(1), "by the interval");
}

#[test]
fn asked_before_the_job_runs_it_is_its_first() {
    let mut driver = Driver::new(Recorded::default());
    driver.on(Event::Ask(7));
    let effects = driver.start();
    assert_eq!(effects, driver.triggered(1));
}
