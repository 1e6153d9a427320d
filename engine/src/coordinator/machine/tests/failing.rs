//! Silent workers, those that leave, and processes that fail by themselves.

use super::*;
use crate::protocol::Leaving;

impl Driver {
    fn silent(&mut self, link: u64) -> Vec<Effect> {
        self.on(Event::Heard(LinkId(link), Heard::Silent("silent for 5s".to_owned())))
    }

    fn beat(&mut self, link: u64) {
        assert_eq!(self.on(Event::Heard(LinkId(link), Heard::Beat)), []);
    }
}

#[test]
fn a_worker_that_is_silent_alone_is_lost() {
    let mut driver = Driver::running();
    driver.now += Duration::from_millis(4_500);
    driver.beat(0);
    driver.now += Duration::from_millis(500);
    assert_eq!(driver.silent(1), [driver.stopped(0)]);
    assert_eq!(driver.machine.view().lost, BTreeSet::from(["b".to_owned()]));
}

#[test]
fn when_all_are_silent_at_once_each_gets_a_fresh_connection_and_nobody_is_lost() {
    let mut driver = Driver::running();
    driver.says(0, to_coordinator::Body::Progress(Progress::default()));
    driver.wait_ms(10_000);
    assert!(driver.machine.completed.0 == 0, "checkpoint 1 is open");
    assert_eq!(driver.silent(0), [Effect::Dial(LinkId(2), member("a"))]);
    assert_eq!(driver.silent(1), [Effect::Dial(LinkId(3), member("b"))]);
    let generation = driver.machine.generation;
    let effects = driver.hello(2, "a");
    let abort = to_worker::Body::Abort(crate::protocol::Abort { checkpoint: 1 });
    assert!(effects.contains(&Effect::Send(LinkId(2), generation, abort.into())), "{effects:?}");
    driver.hello(3, "b");
    assert!(matches!(driver.machine.state, State::Running(_)));
    assert_eq!((driver.machine.generation, driver.machine.tally.replaced), (generation, 0));
    assert_eq!(driver.machine.view().lost, BTreeSet::new());
    assert_eq!(driver.machine.schedule.failures(), 0);
    // The streams are numbered on, so the driver finds them; the next checkpoint is of both.
    driver.wait_ms(10_000);
    driver.complete(2, vec![piece("x")]);
    assert_eq!(driver.machine.completed, CheckpointId(2));
}

#[test]
fn whoever_does_not_answer_the_fresh_connection_is_lost() {
    for ends in [Heard::Silent("cannot reach".to_owned()), Heard::Lost("refused".to_owned())] {
        let mut driver = Driver::running();
        driver.wait_ms(5_000);
        driver.silent(0);
        driver.silent(1);
        driver.hello(2, "a");
        driver.on(Event::Heard(LinkId(3), ends));
        assert_eq!(driver.machine.view().lost, BTreeSet::from(["b".to_owned()]));
        assert!(matches!(driver.machine.state, State::Idle));
    }
}

#[test]
fn one_that_leaves_is_known_and_counts_as_replaced_once() {
    let mut driver = Driver::running();
    for _ in 0..2 {
        assert_eq!(driver.says(1, to_coordinator::Body::Leaving(Leaving {})), []);
    }
    assert_eq!(driver.machine.view().leaving, BTreeSet::from(["b".to_owned()]));
    assert!(matches!(driver.machine.state, State::Running(_)));
    driver.on(Event::Heard(LinkId(1), Heard::Lost("closed".to_owned())));
    assert_eq!(driver.machine.tally.replaced, 1);
}

#[test]
fn enough_workers_are_all_at_first_and_then_the_part_that_the_job_says() {
    let mut driver = Driver::new(Recorded::default());
    assert_eq!(driver.machine.view().enough, 2);
    driver.start();
    assert_eq!(driver.machine.view().enough, 1);
}

#[test]
fn a_process_that_failed_by_itself_counts_and_leaves_those_alone_that_go_on_without_it() {
    let mut driver = Driver::running();
    assert_eq!(driver.on(Event::ProcessFault("worker 2 ended with signal 6".to_owned())), []);
    assert!(matches!(driver.machine.state, State::Running(_)));
    assert_eq!(driver.machine.tally.restarts, 1);
    driver.on(Event::Heard(LinkId(1), Heard::Lost("broken".to_owned())));
    assert_eq!(driver.machine.view().wish, Wish::Hold, "the pause after the error still holds");
    driver.wait_ms(100);
    assert_eq!(driver.machine.view().wish, Wish::Run);
}
