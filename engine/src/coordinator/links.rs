//! Control streams to workers: one task each dials, greets, keeps heartbeats going both ways and
//! hands on what it hears.
//!
//! A worker that says nothing for `failover.timeout` is silent; the machine decides whether it is
//! lost. A task that notices that it was itself not run for a while suspects itself first and asks
//! once more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use weir_runtime::clock::{self, Instant};
use weir_runtime::task::{self, Task};
use weir_state::ids::Term;

use crate::cluster::Member;
use crate::network::{CoordinatorLink, Network};
use crate::protocol::{
    Heartbeat, Hello, PROTOCOL_VERSION, ToCoordinator, ToWorker, to_coordinator, to_worker,
};

/// Messages to one worker that were not sent yet.
const OUTGOING_MESSAGES_MAX: usize = 256;
/// Heartbeats within one timeout.
pub(crate) const HEARTBEATS_PER_TIMEOUT: u32 = 5;

/// Which stream something came from; a worker dialled again has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

/// What comes from a stream.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message.
    Said(Box<ToCoordinator>),
    /// It answered a heartbeat.
    Beat,
    /// It says nothing any more; nothing follows. It may be us whom nothing reaches.
    Silent(String),
    /// The stream is over; nothing follows.
    Lost(String),
}

/// What all streams need to know.
#[derive(Clone)]
pub(crate) struct Greeting {
    pub(crate) network: Arc<dyn Network>,
    pub(crate) term: Term,
    pub(crate) hello: Hello,
    pub(crate) timeout: Duration,
}

impl Greeting {
    pub(crate) fn new(
        network: Arc<dyn Network>,
        term: Term,
        incarnation: String,
        token: String,
        timeout: Duration,
    ) -> Self {
        let hello = Hello { protocol: PROTOCOL_VERSION, incarnation, token };
        Self { network, term, hello, timeout }
    }
}

/// A stream's sending end. Dropping it closes the stream.
pub(crate) struct Stream {
    outgoing: mpsc::Sender<ToWorker>,
    _task: Task<()>,
}

impl Stream {
    /// Dials `member`; everything from it comes as (`id`, …) through `heard`.
    pub(crate) fn open(
        greeting: Greeting,
        id: LinkId,
        member: Member,
        heard: mpsc::Sender<(LinkId, Heard)>,
    ) -> Self {
        let (outgoing, queue) = mpsc::channel(OUTGOING_MESSAGES_MAX);
        let keep = async move {
            let end = keep(&greeting, id, &member, queue, &heard).await;
            // Nobody listens any more: then nobody needs to know.
            let _ = heard.send((id, end)).await;
        };
        Self { outgoing, _task: task::spawn(keep) }
    }

    /// Queues a message. Gives whether there was room: without it the worker does not read.
    pub(crate) fn send(&self, message: ToWorker) -> bool {
        !matches!(self.outgoing.try_send(message), Err(mpsc::error::TrySendError::Full(_)))
    }
}

/// Keeps one stream until it is over; gives how it ended.
async fn keep(
    greeting: &Greeting,
    id: LinkId,
    member: &Member,
    mut queue: mpsc::Receiver<ToWorker>,
    heard: &mpsc::Sender<(LinkId, Heard)>,
) -> Heard {
    let dialled = clock::timeout(greeting.timeout, greeting.network.control(&member.address)).await;
    let mut link = match dialled {
        Ok(Ok(link)) => link,
        Ok(Err(error)) => return Heard::Lost(error.to_string()),
        Err(elapsed) => {
            return Heard::Silent(format!("cannot reach worker {}: {elapsed}", member.address));
        }
    };
    let hello = to_worker::Body::Hello(greeting.hello.clone());
    let mut pulse = Pulse::new(greeting.timeout, clock::now());
    if let Err(end) = post(greeting, &link, hello_message(greeting, hello)).await {
        return end;
    }
    loop {
        let event = next(&mut link, &mut queue, &pulse).await;
        match event {
            Event::Queued(message) => {
                if let Err(end) = post(greeting, &link, message).await {
                    return end;
                }
            }
            Event::Closed => return Heard::Lost("closed".to_owned()),
            Event::Said(message) => {
                pulse.heard(clock::now());
                let is_beat = matches!(message.body, Some(to_coordinator::Body::Heartbeat(_)));
                let said = if is_beat { Heard::Beat } else { Heard::Said(Box::new(message)) };
                if heard.send((id, said)).await.is_err() {
                    return Heard::Lost("closed".to_owned());
                }
            }
            Event::Broken => return Heard::Lost("its connection broke".to_owned()),
            Event::Beat => match pulse.beat(clock::now()) {
                Some(number) => {
                    let beat = to_worker::Body::Heartbeat(Heartbeat { number });
                    if let Err(end) = post(greeting, &link, hello_message(greeting, beat)).await {
                        return end;
                    }
                }
                None => return Heard::Silent(format!("silent for {:?}", greeting.timeout)),
            },
        }
    }
}

enum Event {
    Queued(ToWorker),
    Closed,
    Said(ToCoordinator),
    Broken,
    Beat,
}

async fn next(
    link: &mut CoordinatorLink,
    queue: &mut mpsc::Receiver<ToWorker>,
    pulse: &Pulse,
) -> Event {
    tokio::select! {
        biased;
        said = link.receive.recv() => said.map_or(Event::Broken, Event::Said),
        queued = queue.recv() => queued.map_or(Event::Closed, Event::Queued),
        () = clock::sleep_until(pulse.next) => Event::Beat,
    }
}

/// A message that belongs to no generation.
fn hello_message(greeting: &Greeting, body: to_worker::Body) -> ToWorker {
    ToWorker { term: greeting.term.0, generation: 0, body: Some(body) }
}

async fn post(greeting: &Greeting, link: &CoordinatorLink, message: ToWorker) -> Result<(), Heard> {
    match clock::timeout(greeting.timeout, link.send.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Heard::Lost("its connection broke".to_owned())),
        Err(_) => Err(Heard::Silent(format!("takes no message for {:?}", greeting.timeout))),
    }
}

/// Heartbeats of one stream. Pure.
#[derive(Debug)]
struct Pulse {
    timeout: Duration,
    every: Duration,
    next: Instant,
    last_heard: Instant,
    number: u64,
}

impl Pulse {
    fn new(timeout: Duration, now: Instant) -> Self {
        let every = timeout / HEARTBEATS_PER_TIMEOUT;
        Self { timeout, every, next: now + every, last_heard: now, number: 0 }
    }

    fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// The next heartbeat's number, or `None` when the worker counts as lost.
    fn beat(&mut self, now: Instant) -> Option<u64> {
        let late = now.saturating_duration_since(self.next);
        if late > self.every {
            // This process slept: what it did not hear says nothing about the worker.
            self.last_heard = now;
        }
        if now.saturating_duration_since(self.last_heard) >= self.timeout {
            return None;
        }
        self.next = now + self.every;
        self.number += 1;
        Some(self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_worker_is_lost_after_the_timeout() {
        let start = clock::now();
        let mut pulse = Pulse::new(Duration::from_secs(5), start);
        for second in 1..5 {
            assert_eq!(pulse.beat(start + Duration::from_secs(second)), Some(second));
        }
        assert_eq!(pulse.beat(start + Duration::from_secs(5)), None);
    }

    #[test]
    fn a_word_from_the_worker_starts_the_timeout_anew() {
        let start = clock::now();
        let mut pulse = Pulse::new(Duration::from_secs(5), start);
        for second in 1..20 {
            let now = start + Duration::from_secs(second);
            pulse.heard(now);
            assert!(pulse.beat(now).is_some());
        }
    }

    #[test]
    fn a_coordinator_that_slept_suspects_itself_first() {
        let start = clock::now();
        let mut pulse = Pulse::new(Duration::from_secs(5), start);
        let woke = start + Duration::from_secs(60);
        assert!(pulse.beat(woke).is_some());
        let mut now = woke;
        let mut asked = 0;
        while pulse.beat(now + Duration::from_secs(1)).is_some() {
            now += Duration::from_secs(1);
            asked += 1;
        }
        assert_eq!(asked, 4, "one whole timeout more");
    }
}
