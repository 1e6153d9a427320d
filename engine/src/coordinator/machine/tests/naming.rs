//! Snapshots: which checkpoint gets a name, and when.

use super::*;
use crate::coordinator::snapshots::{Kept, Wish};

fn wish(driver: &mut Driver, wish: Wish) -> Vec<Effect> {
    driver.on(Event::Wish([("monday".to_owned(), wish)].into()))
}

fn name(checkpoint: u64) -> Effect {
    Effect::NameSnapshot { name: "monday".to_owned(), checkpoint: CheckpointId(checkpoint) }
}

fn kept(checkpoint: u64) -> Kept {
    Kept { checkpoint: CheckpointId(checkpoint), wall_ms: 1 }
}

fn named(driver: &mut Driver, kept: Option<Kept>) -> Vec<Effect> {
    driver.on(Event::SnapshotNamed("monday".to_owned(), kept))
}

#[test]
fn a_wish_takes_a_checkpoint_at_once_and_names_it_when_its_output_is_visible() {
    let mut driver = Driver::running();
    assert_eq!(wish(&mut driver, Wish::Keep), driver.triggered(1));
    let effects = driver.complete(1, vec![piece("x")]);
    assert!(!effects.contains(&name(1)), "its output is not visible: {effects:?}");
    assert_eq!(driver.confirm(1, 1, vec![]), []);
    assert_eq!(driver.confirm(0, 1, vec![piece("x")]), [name(1)]);
    assert_eq!(named(&mut driver, Some(kept(1))), []);
    assert_eq!(driver.machine.status(None).snapshots["monday"], kept(1));
    assert_eq!(wish(&mut driver, Wish::Keep), [], "it is there");
}

#[test]
fn a_checkpoint_that_had_begun_before_the_wish_gets_no_name() {
    let mut driver = Driver::running();
    driver.wait_ms(10_000);
    assert_eq!(wish(&mut driver, Wish::Keep), []);
    let effects = driver.complete(1, vec![]);
    assert!(!effects.contains(&name(1)));
    assert!(effects.ends_with(&driver.triggered(2)), "{effects:?}");
    assert!(driver.complete(2, vec![]).contains(&name(2)));
}

#[test]
fn while_its_output_is_not_visible_a_newer_checkpoint_takes_the_place_of_one_that_goes() {
    let mut driver = Driver::running();
    wish(&mut driver, Wish::Keep);
    driver.complete(1, vec![piece("x")]);
    // Three are kept: the first goes with the fourth.
    for id in 2..=4 {
        driver.says(0, to_coordinator::Body::Progress(Progress::default()));
        driver.machine.on(Event::Ask(id), driver.now);
        driver.complete(id, vec![]);
    }
    let effects = driver.confirm(0, 4, vec![piece("x")]);
    assert!(effects.contains(&name(4)), "{effects:?}");
}

#[test]
fn one_whose_checkpoint_went_gets_another() {
    let mut driver = Driver::running();
    wish(&mut driver, Wish::Keep);
    assert!(driver.complete(1, vec![]).contains(&name(1)));
    assert_eq!(named(&mut driver, None), driver.triggered(2));
}

#[test]
fn who_takes_over_names_nothing_twice_and_drops_what_is_to_go() {
    let snapshots = [("monday".to_owned(), kept(3))].into();
    let checkpoint = CheckpointId(3);
    let mut driver = Driver::new(Recorded { snapshots, checkpoint, ..Recorded::default() });
    assert_eq!(wish(&mut driver, Wish::Keep), []);
    driver.start();
    let drop = Effect::DropSnapshot("monday".to_owned());
    assert_eq!(wish(&mut driver, Wish::Drop), [drop]);
    let held = Event::SnapshotHeld("monday".to_owned(), "pinned".to_owned());
    assert_eq!(driver.on(held), []);
    assert_eq!(driver.machine.status(None).snapshots_held["monday"], "pinned");
    assert_eq!(driver.wait_ms(9_999), []);
    let effects = driver.wait_ms(1);
    assert_eq!(effects[..1], [Effect::DropSnapshot("monday".to_owned())], "tried again");
    driver.on(Event::SnapshotDropped("monday".to_owned()));
    assert!(driver.machine.status(None).snapshots.is_empty());
    assert!(driver.machine.status(None).snapshots_held.is_empty());
}

#[test]
fn a_wish_at_the_end_names_the_last_checkpoint_before_the_job_is_finished() {
    let mut driver = Driver::running();
    assert_eq!(driver.input_done(), driver.triggered(1));
    driver.complete(1, vec![piece("x")]);
    assert_eq!(wish(&mut driver, Wish::Keep), []);
    driver.confirm(1, 1, vec![]);
    let effects = driver.confirm(0, 1, vec![piece("x")]);
    let finish = Effect::Finish { confirmed: vec![CheckpointId(1)] };
    assert_eq!(effects, [name(1), finish]);
}
