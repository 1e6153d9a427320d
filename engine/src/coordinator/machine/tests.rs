//! The machine, driven event by event: two workers, one slot, one stage.

use weir_runtime::clock;

use super::*;
use crate::protocol::{
    Commit, Committed, Declined, Deployed, Failed, HelloReply, InputDone, Progress, StepCounters,
};

mod adopting;
mod asked;
mod failing;
mod moving;
mod naming;

struct Driver {
    machine: Machine,
    now: Instant,
}

fn shape() -> Shape {
    Shape {
        replicas: 2,
        slots: 1,
        stages: 1,
        sources: vec!["s".to_owned()],
        tables: Vec::new(),
        sinks: vec!["out".to_owned()],
        spread: 0,
        checkpoint: CheckpointPolicy {
            interval_ms: 10_000,
            timeout_ms: 60_000,
            min_pause_ms: 0,
            retained: 3,
            tolerable_failures: Some(1),
        },
        failover: FailoverPolicy {
            timeout_ms: 5_000,
            restarts: 1,
            within_ms: 60_000,
            min_survivors_percent: 50,
        },
        rescale: RescalePolicy::default(),
    }
}

fn member(name: &str) -> Member {
    Member { incarnation: name.to_owned(), address: format!("{name}:1") }
}

fn layout(workers: &[&str], width: u32) -> Layout {
    let workers = workers.iter().map(|name| member(name)).collect();
    Layout::deal(workers, width, &Layout::default())
}

fn piece(name: &str) -> Piece {
    Piece {
        step: "out".to_owned(),
        folder: "out".to_owned(),
        staged: format!("_weir/{name}"),
        r#final: name.to_owned(),
        rows: 1,
        bytes: 1,
    }
}

impl Driver {
    fn new(recorded: Recorded) -> Self {
        let now = clock::now();
        Self { machine: Machine::new(shape(), recorded, now), now }
    }

    /// A driver whose first generation runs on the workers `a` and `b`.
    fn running() -> Self {
        let mut driver = Self::new(Recorded::default());
        driver.start();
        driver
    }

    fn start(&mut self) -> Vec<Effect> {
        let first = self.machine.next_link;
        self.on(Event::Deploy(vec![member("a"), member("b")], 2));
        self.hello(first, "a");
        let effects = self.hello(first + 1, "b");
        let generation = self.machine.generation.next();
        assert_eq!(effects, [Effect::RecordGeneration(generation, layout(&["a", "b"], 2))]);
        self.on(Event::GenerationRecorded(generation));
        self.says(0, to_coordinator::Body::Deployed(Deployed {}));
        let effects = self.says(1, to_coordinator::Body::Deployed(Deployed {}));
        assert!(matches!(self.machine.state, State::Running(_)));
        effects
    }

    fn on(&mut self, event: Event) -> Vec<Effect> {
        self.machine.on(event, self.now)
    }

    fn hello(&mut self, link: u64, worker: &str) -> Vec<Effect> {
        let reply = HelloReply { worker: worker.to_owned(), ..HelloReply::default() };
        let body = Some(to_coordinator::Body::Hello(reply));
        self.on(Event::Heard(
            LinkId(link),
            Heard::Said(ToCoordinator { generation: 0, body }.into()),
        ))
    }

    /// The worker of this place in the present crew says something of the present generation.
    fn says(&mut self, place: u64, body: to_coordinator::Body) -> Vec<Effect> {
        let generation = self.machine.generation.0;
        let link = LinkId(self.machine.next_link - 2 + place);
        let message = ToCoordinator { generation, body: Some(body) };
        self.on(Event::Heard(link, Heard::Said(message.into())))
    }

    fn wait_ms(&mut self, ms: u64) -> Vec<Effect> {
        self.now += Duration::from_millis(ms);
        self.on(Event::Tick)
    }

    fn ack(&mut self, checkpoint: u64, subtask: u32) -> Vec<Effect> {
        let ack = Ack { checkpoint, subtask, ..Ack::default() };
        self.says(u64::from(subtask), to_coordinator::Body::Ack(ack))
    }

    /// Both acknowledge; the record lands and covers `pieces`.
    fn complete(&mut self, checkpoint: u64, pieces: Vec<Piece>) -> Vec<Effect> {
        assert_eq!(self.ack(checkpoint, 0), []);
        let effects = self.ack(checkpoint, 1);
        let [Effect::RecordCheckpoint { id, confirmed, .. }] = &effects[..] else {
            panic!("{effects:?}");
        };
        let (id, confirmed) = (*id, confirmed.clone());
        self.on(Event::CheckpointRecorded { id, pieces, confirmed })
    }

    fn confirm(&mut self, place: u64, checkpoint: u64, pieces: Vec<Piece>) -> Vec<Effect> {
        self.says(place, to_coordinator::Body::Committed(Committed { checkpoint, pieces }))
    }

    fn input_done(&mut self) -> Vec<Effect> {
        let done = |subtask| to_coordinator::Body::InputDone(InputDone { stage: 0, subtask });
        assert_eq!(self.says(0, done(0)), []);
        self.says(1, done(1))
    }

    fn failed(&mut self, fatal: bool) -> Vec<Effect> {
        let message = "filter: division by zero".to_owned();
        self.says(0, to_coordinator::Body::Failed(Failed { message, fatal, outage: false }))
    }

    fn outage(&mut self) -> Vec<Effect> {
        let message = "out: cannot write x".to_owned();
        self.says(0, to_coordinator::Body::Failed(Failed { message, fatal: false, outage: true }))
    }

    fn send(&self, place: u64, body: to_worker::Body) -> Effect {
        let link = LinkId(self.machine.next_link - 2 + place);
        Effect::Send(link, self.machine.generation, body.into())
    }

    fn triggered(&self, checkpoint: u64) -> [Effect; 2] {
        let trigger = crate::protocol::Trigger { checkpoint, tables: 0, pauses: false };
        let trigger = to_worker::Body::Trigger(trigger);
        [self.send(0, trigger.clone()), self.send(1, trigger)]
    }

    fn ordered(&self, checkpoint: u64, pieces: [Vec<Piece>; 2]) -> Vec<Effect> {
        let orders = (0..).zip(pieces).map(|(place, pieces)| {
            self.send(place, to_worker::Body::Commit(Commit { checkpoint, pieces }))
        });
        orders.collect()
    }

    fn stopped(&self, place: u64) -> Effect {
        self.send(place, to_worker::Body::Stop(crate::protocol::Stop {}))
    }
}

#[test]
fn a_generation_is_recorded_before_any_worker_is_told_to_run_it() {
    let mut driver = Driver::new(Recorded { generation: Generation(4), ..Recorded::default() });
    let effects = driver.on(Event::Deploy(vec![member("a"), member("b")], 2));
    let dials = [Effect::HangUp, Effect::Dial(LinkId(0), member("a"))];
    assert_eq!(effects[..2], dials);
    assert_eq!(driver.hello(0, "a"), []);
    let effects = driver.hello(1, "b");
    assert_eq!(effects, [Effect::RecordGeneration(Generation(5), layout(&["a", "b"], 2))]);
    let effects = driver.on(Event::GenerationRecorded(Generation(5)));
    let links = vec![LinkId(0), LinkId(1)];
    assert_eq!(effects, [Effect::Deploy(Generation(5), layout(&["a", "b"], 2), links)]);
}

#[test]
fn a_checkpoint_comes_after_the_interval_and_is_recorded_when_all_have_acknowledged() {
    let mut driver = Driver::running();
    assert_eq!(driver.wait_ms(9_999), []);
    assert_eq!(driver.wait_ms(1), driver.triggered(1));
    let effects = driver.complete(1, vec![piece("x")]);
    assert_eq!(effects, driver.ordered(1, [vec![piece("x")], vec![]]));
}

#[test]
fn commits_are_ordered_again_until_confirmed_and_the_confirmation_is_recorded() {
    let mut driver = Driver::running();
    driver.wait_ms(10_000);
    driver.complete(1, vec![piece("x")]);
    driver.confirm(1, 1, vec![]);
    assert_eq!(driver.wait_ms(1_000), driver.ordered(1, [vec![piece("x")], vec![]]));
    driver.confirm(0, 1, vec![piece("x")]);
    assert_eq!(driver.wait_ms(1_000), []);

    assert_eq!(driver.wait_ms(8_000), driver.triggered(2), "the confirmation is a change");
    driver.ack(2, 0);
    let effects = driver.ack(2, 1);
    let [Effect::RecordCheckpoint { confirmed, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(*confirmed, [CheckpointId(1)]);
}

#[test]
fn a_lost_notification_is_repeated_even_without_pieces() {
    let mut driver = Driver::running();
    driver.wait_ms(10_000);
    driver.complete(1, vec![]);
    driver.confirm(0, 1, vec![]);
    assert_eq!(driver.wait_ms(1_000), driver.ordered(1, [vec![], vec![]]));
    driver.confirm(1, 1, vec![]);
    assert_eq!(driver.machine.deadline(), None, "an idle job waits for nothing");
}

#[test]
fn an_idle_job_takes_no_checkpoint_and_rows_make_the_next_one_due() {
    let mut driver = Driver::running();
    driver.wait_ms(10_000);
    driver.complete(1, vec![]);
    driver.confirm(0, 1, vec![]);
    driver.confirm(1, 1, vec![]);
    assert_eq!(driver.wait_ms(100_000), []);
    let steps = vec![StepCounters { step: "s".into(), rows_in: 1, ..StepCounters::default() }];
    let progress = Progress { steps, ..Progress::default() };
    let effects = driver.says(0, to_coordinator::Body::Progress(progress));
    assert_eq!(effects, driver.triggered(2));
}

#[test]
fn a_checkpoint_without_progress_is_aborted_and_its_number_not_used_again() {
    let mut driver = Driver::running();
    driver.wait_ms(10_000);
    assert_eq!(driver.wait_ms(50_000), []);
    driver.ack(1, 0);
    assert_eq!(driver.wait_ms(59_999), [], "the timeout counts from the last progress");
    let abort = to_worker::Body::Abort(crate::protocol::Abort { checkpoint: 1 });
    let mut effects = driver.wait_ms(1);
    let tail = effects.split_off(2);
    assert_eq!(effects, [driver.send(0, abort.clone()), driver.send(1, abort)]);
    assert_eq!(tail, []);
    assert_eq!(driver.wait_ms(10), driver.triggered(2));
    assert_eq!(driver.ack(1, 1), [], "an old acknowledgement counts for nothing");
}

#[test]
fn failed_checkpoints_in_a_row_fail_the_job_beyond_what_is_tolerated() {
    let mut driver = Driver::running();
    driver.wait_ms(10_000);
    let decline = |checkpoint| {
        let reason = "stage failed".to_owned();
        to_coordinator::Body::Declined(Declined { checkpoint, reason })
    };
    driver.says(0, decline(1));
    assert_eq!(driver.machine.ended(), None);
    driver.wait_ms(10_000);
    driver.says(0, decline(2));
    let Some(Phase::Failed(why)) = driver.machine.ended() else { panic!() };
    assert_eq!(
        why,
        "2 checkpoints failed in a row (checkpoint.tolerableFailures); the last: stage failed"
    );
}

#[test]
fn a_lost_worker_does_not_count_and_the_others_are_stopped() {
    let mut driver = Driver::running();
    for _ in 0..3 {
        let lost = Event::Heard(LinkId(driver.machine.next_link - 1), Heard::Lost("killed".into()));
        let stop = driver.stopped(0);
        assert_eq!(driver.on(lost), [stop]);
        let view = driver.machine.view();
        assert_eq!((view.wish, view.deployed), (Wish::Run, None));
        assert_eq!(view.lost, BTreeSet::from(["b".to_owned()]));
        driver.start();
    }
    assert_eq!(driver.machine.tally.restarts, 0);
    assert_eq!(driver.machine.tally.replaced, 3);
    assert_eq!(driver.machine.status(None).failovers, 3);
}

#[test]
fn a_failover_tells_how_long_it_took_from_the_loss_on() {
    let mut driver = Driver::running();
    assert_eq!(driver.machine.status(None).last_failover, None);
    driver.wait_ms(1_000);
    let lost = Heard::Lost("killed".into());
    driver.on(Event::Heard(LinkId(driver.machine.next_link - 1), lost));
    driver.now += Duration::from_millis(1_500);
    driver.start();
    let last = driver.machine.status(None).last_failover.unwrap();
    assert_eq!((last.generation, last.recovery_ms), (driver.machine.generation, 1_500));
}

#[test]
fn checkpoints_tell_how_long_they_took_and_what_they_wrote() {
    let mut driver = Driver::running();
    driver.wait_ms(10_000);
    let ack = |subtask| {
        let ack = Ack { checkpoint: 1, subtask, state_bytes_written: 40, ..Ack::default() };
        to_coordinator::Body::Ack(ack)
    };
    driver.says(0, ack(0));
    driver.wait_ms(250);
    let effects = driver.says(1, ack(1));
    assert!(matches!(effects[..], [Effect::RecordCheckpoint { .. }]), "{effects:?}");
    let id = CheckpointId(1);
    driver.on(Event::CheckpointRecorded { id, pieces: Vec::new(), confirmed: Vec::new() });
    let numbers = driver.machine.status(None).checkpoint_numbers;
    let expected = CheckpointNumbers {
        total_ms: 250,
        total_bytes: 80,
        last_ms: 250,
        last_bytes: 80,
        aborted: 0,
    };
    assert_eq!(numbers, expected);
}

#[test]
fn a_store_that_does_not_answer_fails_no_job_however_long_it_takes() {
    let mut driver = Driver::running();
    for _ in 0..40 {
        driver.outage();
        assert_eq!(driver.machine.view().wish, Wish::Hold);
        assert!(driver.machine.status(None).message.contains("does not answer"));
        driver.wait_ms(10_000);
        driver.start();
    }
    assert_eq!(driver.machine.ended(), None);
}

#[test]
fn a_checkpoint_that_waits_for_a_store_shows() {
    let mut driver = Driver::running();
    driver.wait_ms(10_000);
    driver.wait_ms(29_999);
    let now = driver.now;
    assert!(!driver.machine.status(Some(now)).checkpoint_waits);
    driver.wait_ms(1);
    let now = driver.now;
    assert!(driver.machine.status(Some(now)).checkpoint_waits);
    driver.says(0, to_coordinator::Body::Ack(Ack { checkpoint: 1, ..Ack::default() }));
    assert!(!driver.machine.status(Some(now)).checkpoint_waits, "some progress");
}

#[test]
fn a_reported_error_pauses_and_the_budget_ends_the_job() {
    let mut driver = Driver::running();
    let stops = [driver.stopped(0), driver.stopped(1)];
    assert_eq!(driver.failed(false), stops);
    assert_eq!(driver.machine.view().wish, Wish::Hold);
    driver.wait_ms(100);
    assert_eq!(driver.machine.view().wish, Wish::Run);
    driver.start();
    driver.failed(false);
    let Some(Phase::Failed(why)) = driver.machine.ended() else { panic!() };
    assert!(why.starts_with("filter: division by zero (given up after 1 restarts"), "{why}");
}

#[test]
fn a_fatal_error_fails_the_job_at_once() {
    let mut driver = Driver::running();
    driver.failed(true);
    let failed = Phase::Failed("filter: division by zero".to_owned());
    assert_eq!(driver.machine.ended(), Some(&failed));
    assert_eq!(driver.machine.view().wish, Wish::End);
}

#[test]
fn what_an_old_generation_says_is_not_heard() {
    let mut driver = Driver::running();
    let message = "old".to_owned();
    let body = Some(to_coordinator::Body::Failed(Failed { message, fatal: true, outage: false }));
    driver.on(Event::Heard(LinkId(0), Heard::Said(ToCoordinator { generation: 0, body }.into())));
    assert_eq!(driver.machine.ended(), None);
}

#[test]
fn a_worker_that_refuses_fences_the_coordinator() {
    let mut driver = Driver::new(Recorded::default());
    driver.on(Event::Deploy(vec![member("a"), member("b")], 2));
    let reply = HelloReply {
        worker: "a".into(),
        refused: "term 1 was superseded by term 2".into(),
        ..HelloReply::default()
    };
    let body = Some(to_coordinator::Body::Hello(reply));
    driver.on(Event::Heard(LinkId(0), Heard::Said(ToCoordinator { generation: 0, body }.into())));
    assert!(matches!(driver.machine.ended(), Some(Phase::Fenced(_))));
}

#[test]
fn the_end_is_final_checkpoint_then_all_commits_then_finished() {
    let mut driver = Driver::running();
    assert_eq!(driver.input_done(), driver.triggered(1), "no wait for the interval");
    driver.complete(1, vec![piece("x"), piece("y")]);
    assert_eq!(driver.confirm(0, 1, vec![piece("x")]), []);
    let effects = driver.confirm(1, 1, vec![piece("y")]);
    assert_eq!(effects, [Effect::Finish { confirmed: vec![CheckpointId(1)] }]);
    driver.on(Event::Over(Phase::Finished));
    assert_eq!(driver.machine.ended(), Some(&Phase::Finished));
}

#[test]
fn the_input_ending_under_an_open_checkpoint_needs_another_one() {
    let mut driver = Driver::running();
    driver.wait_ms(10_000);
    assert_eq!(driver.input_done(), []);
    let effects = driver.complete(1, vec![]);
    let mut expected = driver.ordered(1, [vec![], vec![]]);
    expected.extend(driver.triggered(2));
    assert_eq!(effects, expected);
}

#[test]
fn pieces_that_an_earlier_run_left_unconfirmed_go_out_first() {
    let recorded = Recorded {
        generation: Generation(1),
        checkpoint: CheckpointId(7),
        unconfirmed: vec![(CheckpointId(7), piece("x"))],
        ..Recorded::default()
    };
    let mut driver = Driver::new(recorded);
    let effects = driver.start();
    assert_eq!(effects, driver.ordered(7, [vec![piece("x")], vec![]]));
    driver.input_done();
    assert!(driver.machine.ended().is_none());
}

#[test]
fn a_suspended_job_takes_a_last_checkpoint_and_is_released() {
    let mut driver = Driver::running();
    let until = driver.now + Duration::from_secs(10);
    assert_eq!(driver.on(Event::Suspend(until)), driver.triggered(1));
    driver.complete(1, vec![piece("x")]);
    driver.confirm(0, 1, vec![piece("x")]);
    let effects = driver.confirm(1, 1, vec![]);
    let released = Effect::Release { confirmed: vec![CheckpointId(1)] };
    assert_eq!(effects, [driver.stopped(0), driver.stopped(1), released]);
}

#[test]
fn a_suspension_that_takes_too_long_is_released_without_a_checkpoint() {
    let mut driver = Driver::running();
    driver.on(Event::Suspend(driver.now + Duration::from_secs(10)));
    let effects = driver.wait_ms(10_000);
    assert_eq!(effects.last(), Some(&Effect::Release { confirmed: vec![] }));
}

#[test]
fn a_job_without_workers_is_suspended_at_once() {
    let mut driver = Driver::new(Recorded::default());
    let effects = driver.on(Event::Suspend(driver.now + Duration::from_secs(10)));
    assert_eq!(effects, [Effect::Release { confirmed: vec![] }]);
}

#[test]
fn workers_that_do_not_answer_are_lost_after_a_while() {
    let mut driver = Driver::new(Recorded::default());
    driver.on(Event::Deploy(vec![member("a"), member("b")], 2));
    driver.hello(0, "a");
    driver.wait_ms(10_000);
    assert_eq!(driver.machine.view().lost, BTreeSet::from(["b".to_owned()]));
}

#[test]
fn a_failure_of_the_generation_before_counts_only_once() {
    let mut driver = Driver::running();
    driver.failed(false);
    driver.wait_ms(100);
    driver.on(Event::Deploy(vec![member("a"), member("b")], 2));
    assert_eq!(driver.failed(false), [], "told again on the new stream");
    assert!(matches!(driver.machine.state, State::Greeting(_)), "{:?}", driver.machine.state);
}
