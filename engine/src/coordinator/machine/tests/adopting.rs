//! A coordinator that comes to a generation that runs.

use super::*;
use crate::coordinator::machine::adopting::Before;

const FORM: u64 = 77;

/// The journal: generation 4 on `a` and `b`, checkpoint 6 complete with one piece to publish.
fn recorded() -> Recorded {
    let before = Before { layout: layout(&["a", "b"], 2), form: FORM, totals: None };
    Recorded {
        generation: Generation(4),
        checkpoint: CheckpointId(6),
        unconfirmed: vec![(CheckpointId(6), piece("x"))],
        before: Some(before),
        ..Recorded::default()
    }
}

fn found(workers: &[&str]) -> Event {
    Event::Found(workers.iter().map(|name| member(name)).collect())
}

fn same(worker: &str, triggered: u64) -> HelloReply {
    let worker = worker.to_owned();
    HelloReply { worker, generation: 4, form: FORM, triggered, ..HelloReply::default() }
}

impl Driver {
    /// Both were found, and were dialled on the streams 0 and 1.
    fn adopting() -> Self {
        let mut driver = Self::new(recorded());
        let dialled = driver.on(found(&["a", "b", "c"]));
        let dial = |link, name| Effect::Dial(LinkId(link), member(name));
        assert_eq!(dialled, [dial(0, "a"), dial(1, "b")]);
        assert_eq!(driver.machine.status(None).phase, Phase::Adopting);
        driver
    }

    fn replies(&mut self, place: u64, reply: HelloReply) -> Vec<Effect> {
        let (generation, body) = (reply.generation, Some(to_coordinator::Body::Hello(reply)));
        let message = ToCoordinator { generation, body };
        self.on(Event::Heard(LinkId(place), Heard::Said(message.into())))
    }

    fn deployed(&mut self, place: u64) -> Vec<Effect> {
        self.says(place, to_coordinator::Body::Deployed(Deployed {}))
    }

    fn is_idle(&self) -> bool {
        matches!(self.machine.state, State::Idle)
    }
}

#[test]
fn what_runs_goes_on_and_hears_first_what_is_complete_and_then_what_is_given_up() {
    let mut driver = Driver::adopting();
    assert_eq!(driver.replies(0, same("a", 8)), []);
    assert_eq!(driver.deployed(0), []);
    assert_eq!(driver.replies(1, same("b", 7)), []);
    let effects = driver.deployed(1);
    let abort = to_worker::Body::Abort(crate::protocol::Abort { checkpoint: 8 });
    let mut wanted = driver.ordered(6, [vec![piece("x")], vec![]]);
    wanted.extend([driver.send(0, abort.clone()), driver.send(1, abort)]);
    assert_eq!(effects, wanted);
    let status = driver.machine.status(None);
    assert_eq!((status.phase, status.generation), (Phase::Running, Generation(4)));
    assert!(status.is_adopted);
    // The next number is above every barrier that may be under way.
    let effects = driver.wait_ms(10_000);
    assert_eq!(effects[..2], driver.ordered(6, [vec![piece("x")], vec![]]));
    assert_eq!(effects[2..], driver.triggered(9));
}

#[test]
fn nothing_is_given_up_when_nothing_was_begun() {
    let mut driver = Driver::adopting();
    driver.replies(0, same("a", 6));
    driver.replies(1, same("b", 6));
    driver.deployed(0);
    assert_eq!(driver.deployed(1), driver.ordered(6, [vec![piece("x")], vec![]]));
}

#[test]
fn a_generation_whose_workers_are_not_all_there_is_followed_by_another() {
    let mut driver = Driver::new(recorded());
    assert_eq!(driver.on(found(&["b", "c"])), []);
    assert!(driver.is_idle());
    assert_eq!(driver.machine.view().enough, 1, "the one that lives need not wait");
    let mut driver = Driver::new(recorded());
    assert_eq!(driver.on(found(&[])), []);
    assert_eq!(driver.machine.view().enough, 2, "nobody lives: a first start");
}

#[test]
fn whoever_runs_something_else_makes_all_begin_anew_without_an_error() {
    let older = HelloReply { generation: 3, ..same("a", 6) };
    let other = HelloReply { form: FORM + 1, ..same("a", 6) };
    let nothing = HelloReply { generation: 0, form: 0, ..same("a", 0) };
    for reply in [older, other, nothing] {
        let mut driver = Driver::adopting();
        let effects = driver.replies(0, reply);
        assert_eq!(effects, [driver.stopped(0), driver.stopped(1), Effect::HangUp]);
        assert!(driver.is_idle());
        assert_eq!(driver.machine.tally.restarts, 0);
        // The plan deploys: the next generation.
        assert_eq!(driver.machine.view().wish, Wish::Run);
        let effects = driver.start();
        assert_eq!(driver.machine.generation, Generation(5), "{effects:?}");
    }
}

#[test]
fn a_failure_that_was_waiting_is_no_error_of_this_coordinator_unless_it_stays() {
    let failed = |fatal| {
        let message = "filter: division by zero".to_owned();
        to_coordinator::Body::Failed(Failed { message, fatal, outage: false })
    };
    let mut driver = Driver::adopting();
    driver.replies(0, same("a", 6));
    driver.says(0, failed(false));
    assert!(driver.is_idle());
    assert_eq!(driver.machine.tally.restarts, 0);
    let mut driver = Driver::adopting();
    driver.replies(0, same("a", 6));
    driver.says(0, failed(true));
    assert_eq!(driver.machine.ended(), Some(&Phase::Failed("filter: division by zero".to_owned())));
}

#[test]
fn a_newer_coordinator_ends_this_one() {
    let mut driver = Driver::adopting();
    let refused = "term 3 was superseded by term 4".to_owned();
    driver.replies(0, HelloReply { refused, generation: 0, ..same("a", 0) });
    assert!(matches!(driver.machine.ended(), Some(Phase::Fenced(_))));
}

#[test]
fn those_that_do_not_answer_are_lost_and_the_others_go_on() {
    let mut driver = Driver::adopting();
    driver.replies(0, same("a", 6));
    driver.deployed(0);
    let due = driver.machine.deadline().expect("it waits");
    let effects = driver.wait_ms(10_000);
    assert_eq!(due, driver.now);
    assert_eq!(effects, [driver.stopped(0)]);
    assert_eq!(driver.machine.view().lost, BTreeSet::from(["b".to_owned()]));
    assert_eq!(driver.machine.view().enough, 1);
    // Or all say who they are, and one never runs.
    let mut driver = Driver::adopting();
    driver.replies(0, same("a", 6));
    driver.replies(1, same("b", 6));
    driver.deployed(0);
    driver.wait_ms(10_000);
    assert!(!driver.is_idle());
    driver.wait_ms(110_000);
    assert!(driver.is_idle());
}

#[test]
fn a_job_that_is_to_pause_is_adopted_first_and_takes_its_last_checkpoint() {
    let mut driver = Driver::adopting();
    assert_eq!(driver.on(Event::Suspend(driver.now + Duration::from_secs(30))), []);
    driver.replies(0, same("a", 6));
    driver.replies(1, same("b", 6));
    driver.deployed(0);
    let effects = driver.deployed(1);
    assert_eq!(effects[2..], driver.triggered(7));
}
