//! One direction of one call.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendError;
use weir_runtime::clock::{self, Instant};
use weir_runtime::random;
use weir_runtime::sim::Process;

use super::fault::Crash;
use super::{Call, Shared, chance};

/// Messages on their way in one direction of one call.
const IN_FLIGHT_MAX: usize = 64;

/// The process at one end, if it is simulated.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) process: Option<Process>,
}

impl End {
    fn is_killed(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_killed)
    }
}

/// Moves messages from one end to the other.
pub(super) struct Pump {
    shared: Arc<Shared>,
    call: Arc<Call>,
    from: End,
    to: End,
    /// Control messages may come twice.
    control: bool,
}

enum Event<T> {
    Broken,
    /// A message, or the end of them.
    Taken(Option<T>),
    Delivered,
    ReceiverGone,
}

impl Pump {
    pub(super) fn new(
        shared: &Arc<Shared>,
        call: &Arc<Call>,
        from: End,
        to: End,
        control: bool,
    ) -> Self {
        Self { shared: Arc::clone(shared), call: Arc::clone(call), from, to, control }
    }

    /// Until the sender is gone and all is delivered, the receiver is gone, or the call breaks.
    pub(super) async fn run<T: Clone>(self, mut out: mpsc::Receiver<T>, into: mpsc::Sender<T>) {
        let mut broken = self.call.broken.subscribe();
        let mut flight: VecDeque<(Instant, T)> = VecDeque::new();
        let mut open = true;
        while open || !flight.is_empty() {
            let room = open && flight.len() < IN_FLIGHT_MAX;
            let event = tokio::select! {
                biased;
                _ = broken.wait_for(|broken| *broken) => Event::Broken,
                delivered = self.deliver(&flight, &into) => match delivered {
                    Ok(()) => Event::Delivered,
                    Err(_) => Event::ReceiverGone,
                },
                () = into.closed() => Event::ReceiverGone,
                message = out.recv(), if room => Event::Taken(message),
            };
            match event {
                Event::Taken(Some(message)) => self.take(message, &mut flight),
                Event::Taken(None) => {
                    open = false;
                    self.lose_at_death(&mut flight);
                }
                Event::Delivered => drop(flight.pop_front()),
                Event::Broken => break,
                Event::ReceiverGone => {
                    self.receiver_gone(&mut out).await;
                    break;
                }
            }
        }
        self.shared.lock().counters.lost += flight.len() as u64;
        if !open && self.from.is_killed() {
            self.sender_died(&into).await;
        }
    }

    /// Puts the first message into the receiver's queue once it is due and the way is free.
    async fn deliver<T: Clone>(
        &self,
        flight: &VecDeque<(Instant, T)>,
        into: &mpsc::Sender<T>,
    ) -> Result<(), SendError<()>> {
        let Some((due, message)) = flight.front() else {
            return std::future::pending().await;
        };
        clock::sleep_until(*due).await;
        self.shared.joined(&self.call.through).await;
        let permit = into.reserve().await?;
        permit.send(message.clone());
        let mut state = self.shared.lock();
        state.counters.delivered += 1;
        let delivered = state.counters.delivered;
        state.note(&self.call.address, delivered, "delivered");
        Ok(())
    }

    /// A message has left its sender; this is where chance strikes.
    fn take<T: Clone>(&self, message: T, flight: &mut VecDeque<(Instant, T)>) {
        let mut state = self.shared.lock();
        state.counters.sent += 1;
        let sent = state.counters.sent;
        let planned = state.planned.remove(&sent);
        let drawn = state.faults.draw_crash(state.counters.crashes);
        let crash = planned.or(drawn).filter(|_| self.from.process.is_some());
        let breaks = chance(state.faults.break_per_million);
        let twice = self.control && chance(state.faults.duplicate_control_per_million);
        let (delay, stalls) = state.faults.draw_delay();
        let due = clock::now() + delay;
        let due = flight.back().map_or(due, |(last, _)| due.max(*last));
        state.counters.stalls += u64::from(stalls);
        state.counters.crashes += u64::from(crash.is_some());
        state.counters.crashes_before += u64::from(crash == Some(Crash::BeforeSend));
        state.counters.breaks += u64::from(breaks);
        state.counters.duplicated += u64::from(twice);
        state.counters.lost += u64::from(crash == Some(Crash::BeforeSend));
        state.note(&self.call.address, sent, "sent");
        drop(state);
        if crash != Some(Crash::BeforeSend) {
            if twice {
                flight.push_back((due, message.clone()));
            }
            flight.push_back((due, message));
        }
        if breaks {
            self.call.broken.send_replace(true);
        }
        if let (Some(_), Some(process)) = (crash, &self.from.process) {
            tracing::debug!(process = process.name(), ?crash, "crash");
            process.kill();
        }
    }

    /// Of what a killed process had sent, the last part may be lost.
    fn lose_at_death<T>(&self, flight: &mut VecDeque<(Instant, T)>) {
        if !self.from.is_killed() || flight.is_empty() {
            return;
        }
        let kept = random::below(flight.len() as u64 + 1);
        let kept = usize::try_from(kept).unwrap_or(flight.len());
        self.shared.lock().counters.lost += (flight.len() - kept) as u64;
        flight.truncate(kept);
    }

    /// The sender's process was killed: the receiver learns it later, or never.
    async fn sender_died<T>(&self, into: &mpsc::Sender<T>) {
        let (silent, delay) = self.draw_death();
        if silent {
            tokio::select! {
                biased;
                () = into.closed() => {}
                () = self.broken() => {}
            }
        } else {
            clock::sleep(delay).await;
        }
    }

    /// The receiver takes nothing any more. If its process was killed the sender learns it later,
    /// or never: then what it sends vanishes.
    async fn receiver_gone<T>(&self, out: &mut mpsc::Receiver<T>) {
        if !self.to.is_killed() {
            return;
        }
        let (silent, delay) = self.draw_death();
        let until = async {
            if silent {
                self.broken().await;
            } else {
                clock::sleep(delay).await;
            }
        };
        let vanish = async {
            while out.recv().await.is_some() {
                let mut state = self.shared.lock();
                state.counters.sent += 1;
                state.counters.lost += 1;
            }
        };
        tokio::select! {
            biased;
            () = until => {}
            () = vanish => {}
        }
    }

    fn draw_death(&self) -> (bool, std::time::Duration) {
        let state = self.shared.lock();
        (chance(state.faults.silent_per_million), state.faults.draw_reset_delay())
    }

    async fn broken(&self) {
        // The sender half lives in the call, which this pump holds.
        let _ = self.call.broken.subscribe().wait_for(|broken| *broken).await;
    }
}
