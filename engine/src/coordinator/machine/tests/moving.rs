//! Moves of a running generation: rescale, retarget, cancel, and what goes wrong meanwhile.

use super::*;

fn target(replicas: u32, slots: u32) -> Target {
    let compaction = crate::pipeline::spec::CompactionPolicy::default();
    Target { replicas, slots, checkpoint: shape().checkpoint, rescale: shape().rescale, compaction }
}

fn trigger(checkpoint: u64, pauses: bool) -> to_worker::Body {
    to_worker::Body::Trigger(crate::protocol::Trigger { checkpoint, tables: 0, pauses })
}

fn abort(checkpoint: u64) -> to_worker::Body {
    to_worker::Body::Abort(crate::protocol::Abort { checkpoint })
}

impl Driver {
    /// To both workers of the first generation, whose streams are 0 and 1.
    fn both(&self, body: &to_worker::Body) -> [Effect; 2] {
        let generation = self.machine.generation;
        [0, 1].map(|link| Effect::Send(LinkId(link), generation, body.clone().into()))
    }

    fn from(&mut self, link: u64, body: to_coordinator::Body) -> Vec<Effect> {
        let generation = self.machine.generation.0;
        let message = ToCoordinator { generation, body: Some(body) };
        self.on(Event::Heard(LinkId(link), Heard::Said(message.into())))
    }

    fn ack_of(&mut self, checkpoint: u64, subtask: u32) -> Vec<Effect> {
        let ack = Ack { checkpoint, subtask, ..Ack::default() };
        self.from(u64::from(subtask), to_coordinator::Body::Ack(ack))
    }

    /// Both subtasks acknowledge, and the record lands.
    fn completed(&mut self, checkpoint: u64) -> Vec<Effect> {
        self.ack_of(checkpoint, 0);
        let effects = self.ack_of(checkpoint, 1);
        assert!(matches!(effects[..], [Effect::RecordCheckpoint { .. }]), "{effects:?}");
        let id = CheckpointId(checkpoint);
        self.on(Event::CheckpointRecorded { id, pieces: vec![], confirmed: vec![] })
    }

    /// Three replicas are wanted and `c` is there: the checkpoint before the cut is under way.
    fn preparing() -> Self {
        let mut driver = Self::running();
        assert_eq!(driver.on(Event::Target(target(3, 1))), []);
        let workers = vec![member("a"), member("b"), member("c")];
        let effects = driver.on(Event::Deploy(workers, 3));
        assert_eq!(effects[0], Effect::Dial(LinkId(2), member("c")), "only the new one is dialled");
        assert_eq!(effects[1..], driver.both(&trigger(1, false)));
        driver
    }

    /// The cut was ordered as checkpoint 2.
    fn cutting() -> Self {
        let mut driver = Self::preparing();
        driver.completed(1);
        let effects = driver.hello(2, "c");
        assert_eq!(effects, driver.both(&trigger(2, true)));
        driver
    }
}

#[test]
fn a_rescale_prepares_cuts_moves_and_tells_its_pause() {
    let mut driver = Driver::cutting();
    assert_eq!(driver.machine.status(None).phase, Phase::Rescaling);
    driver.wait_ms(30);
    driver.from(
        0,
        to_coordinator::Body::Paused(crate::protocol::Paused {
            checkpoint: 2,
            ..Default::default()
        }),
    );
    driver.wait_ms(40);
    let next =
        Layout::deal(vec![member("a"), member("b"), member("c")], 3, &layout(&["a", "b"], 2));
    assert_eq!(driver.completed(2), [Effect::RecordGeneration(Generation(2), next.clone())]);
    let links = vec![LinkId(0), LinkId(1), LinkId(2)];
    let effects = driver.on(Event::GenerationRecorded(Generation(2)));
    assert_eq!(effects, [Effect::Deploy(Generation(2), next, links)]);
    driver.wait_ms(5);
    for link in 0..3 {
        driver.from(link, to_coordinator::Body::Deployed(Deployed {}));
    }
    let status = driver.machine.status(None);
    assert_eq!((status.phase, status.rescales), (Phase::Running, 1));
    let rescale = Rescale { from: (2, 1), to: (3, 1), pause_ms: Some(45), cut_wait_ms: Some(30) };
    assert_eq!(status.last_rescale, Some(rescale));
    let said = "from 2 replicas with 1 slots to 3 with 1, pause 45 ms, cutWait 30 ms";
    assert!(status.message.contains(said), "{}", status.message);
}

#[test]
fn nothing_pauses_before_the_new_workers_have_answered_and_a_checkpoint_is_complete() {
    let mut driver = Driver::preparing();
    assert_eq!(driver.hello(2, "c"), [], "the checkpoint is open");
    let effects = driver.completed(1);
    assert!(
        effects.ends_with(&driver.both(&trigger(2, true))) || {
            let effects = driver.on(Event::Tick);
            effects == driver.both(&trigger(2, true))
        }
    );
}

#[test]
fn going_back_cancels_and_lets_go_on_who_has_paused() {
    let mut driver = Driver::cutting();
    let effects = driver.on(Event::Target(target(2, 1)));
    assert_eq!(effects[..2], driver.both(&abort(2)));
    assert_eq!(driver.machine.status(None).phase, Phase::Running);
    assert_eq!(driver.machine.status(None).checkpoint_failures, 0, "nobody failed");
    assert_eq!(driver.ack_of(2, 0), [], "too late");
}

#[test]
fn a_newer_target_replaces_one_that_is_not_cut_yet() {
    let mut driver = Driver::cutting();
    let effects = driver.on(Event::Target(target(2, 2)));
    assert_eq!(effects[..2], driver.both(&abort(2)));
    let effects = driver.on(Event::Deploy(vec![member("a"), member("b")], 4));
    assert_eq!(effects, driver.both(&trigger(3, false)));
    assert_eq!(driver.machine.view().next.map(|next| next.width), Some(4));
}

#[test]
fn a_new_worker_that_is_lost_leaves_the_generation_as_it_is() {
    let mut driver = Driver::cutting();
    let effects = driver.on(Event::Heard(LinkId(2), Heard::Lost("broken".to_owned())));
    assert_eq!(effects[..2], driver.both(&abort(2)));
    let view = driver.machine.view();
    assert_eq!((view.next, view.deployed.map(|now| now.width)), (None, Some(2)));
    assert!(view.lost.contains("c"));
}

#[test]
fn a_running_worker_that_is_lost_ends_the_move() {
    let mut driver = Driver::cutting();
    driver.on(Event::Heard(LinkId(1), Heard::Lost("broken".to_owned())));
    assert_eq!(driver.machine.view().deployed, None);
    assert_eq!(driver.machine.view().next, None);
}

#[test]
fn an_aborted_cut_is_tried_again_after_a_pause() {
    let mut driver = Driver::cutting();
    let reason = "an upload failed".to_owned();
    let declined = to_coordinator::Body::Declined(Declined { checkpoint: 2, reason });
    assert_eq!(driver.from(0, declined)[..2], driver.both(&abort(2)));
    assert_eq!(driver.wait_ms(999), []);
    let effects = driver.wait_ms(1);
    assert!(effects.ends_with(&driver.both(&trigger(3, true))), "{effects:?}");
}

#[test]
fn a_move_that_takes_too_long_is_given_up() {
    let mut driver = Driver::preparing();
    driver.completed(1);
    driver.wait_ms(599_999);
    assert!(driver.machine.view().next.is_some());
    driver.wait_ms(1);
    assert!(driver.machine.view().next.is_none());
    assert!(driver.machine.status(None).message.contains("goes on as it is"));
}

#[test]
fn the_deadline_of_a_move_is_that_of_the_job_when_it_began() {
    let mut driver = Driver::running();
    let mut short = target(3, 1);
    short.rescale.deadline_ms = 5_000;
    driver.on(Event::Target(short));
    driver.on(Event::Deploy(vec![member("a"), member("b"), member("c")], 3));
    driver.completed(1);
    driver.wait_ms(4_999);
    assert!(driver.machine.view().next.is_some());
    driver.wait_ms(1);
    assert!(driver.machine.view().next.is_none());
    assert!(driver.machine.status(None).message.contains("rescale.deadline"));
}

#[test]
fn a_rescale_waits_for_the_cooldown_of_the_last_and_the_way_back_after_a_loss_does_not() {
    let mut driver = Driver::cutting();
    let mut slow = target(3, 1);
    slow.rescale.cooldown_ms = 30_000;
    driver.on(Event::Target(slow));
    driver.completed(2);
    driver.on(Event::GenerationRecorded(Generation(2)));
    for link in 0..3 {
        driver.from(link, to_coordinator::Body::Deployed(Deployed {}));
    }
    assert_eq!(driver.machine.status(None).serving.len(), 3);
    driver.on(Event::Target(Target { replicas: 2, ..slow }));
    let two = || Event::Deploy(vec![member("a"), member("b")], 2);
    driver.on(two());
    assert!(driver.machine.view().next.is_none());
    assert!(driver.machine.status(None).message.contains("rescale.cooldown"));
    driver.wait_ms(29_999);
    driver.on(two());
    assert!(driver.machine.view().next.is_none());
    assert_eq!(driver.machine.deadline(), Some(driver.now + Duration::from_millis(1)));
    driver.wait_ms(1);
    driver.on(two());
    assert!(driver.machine.view().next.is_some());
    // The form that was reached last is no rescale, whoever runs it.
    driver.on(Event::Target(slow));
    driver.on(Event::Deploy(vec![member("a"), member("b"), member("d")], 3));
    assert!(driver.machine.view().next.is_some());
}

#[test]
fn a_job_that_is_suspended_meanwhile_takes_its_last_checkpoint_and_moves_no_more() {
    let mut driver = Driver::cutting();
    driver.on(Event::Suspend(driver.now + Duration::from_secs(10)));
    let effects = driver.completed(2);
    let moved = effects.iter().any(|effect| matches!(effect, Effect::RecordGeneration(..)));
    assert!(!moved, "{effects:?}");
    assert_eq!(driver.machine.checkpoint, CheckpointId(3));
}
