//! Where the two ends of a worker's outgoing channels meet.
//!
//! Receivers open channels; the subtask that sends may exist already, later, or never. Whoever
//! comes first waits, at most [`OPEN_WAIT`]. Receivers of another incarnation, an older
//! generation or a wrong token are refused; a newer generation refuses all that wait for an older
//! one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use weir_runtime::{clock, task};
use weir_state::ids::Generation;

use crate::exchange::channel::{RemoteSender, SenderEnd, refuse};
use crate::exchange::credit;
use crate::exchange::error::{ChannelId, ExchangeError};
use crate::network::SenderLink;
use crate::protocol::{OpenChannel, PROTOCOL_VERSION};

/// How long one end of a channel waits for the other.
pub const OPEN_WAIT: Duration = Duration::from_secs(20);

/// The meeting place of one worker process, for one incarnation of one job.
#[derive(Debug)]
pub struct Registry {
    incarnation: String,
    token: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    generation: Generation,
    waiting: BTreeMap<ChannelId, Waiting>,
    /// Numbers those that wait, so that a late deadline does not hit another.
    serial: u64,
}

#[derive(Debug)]
enum Waiting {
    /// The receiver is there, the sender is not.
    Receiver { end: SenderEnd, serial: u64 },
    /// The sender is there, the receiver is not.
    Sender { reply: oneshot::Sender<Result<SenderEnd, String>> },
}

impl Registry {
    /// A registry for workers of `incarnation` (the job's folder name, "<n>-<id>") that know
    /// `token`.
    pub fn new(incarnation: impl Into<String>, token: impl Into<String>) -> Arc<Self> {
        let (incarnation, token) = (incarnation.into(), token.into());
        Arc::new(Self { incarnation, token, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker runs `generation` from now on: all that wait for an older one are refused.
    pub fn begin(&self, generation: Generation) {
        let mut state = self.lock();
        if generation <= state.generation {
            return;
        }
        state.generation = generation;
        let first = ChannelId { generation, edge: 0, from: 0, to: 0 };
        let newer = state.waiting.split_off(&first);
        let older = std::mem::replace(&mut state.waiting, newer);
        drop(state);
        for (channel, waiting) in older {
            let reason = superseded(channel.generation, generation);
            match waiting {
                Waiting::Receiver { end, .. } => end.refuse(reason),
                // A sender that no longer waits needs no answer.
                Waiting::Sender { reply } => drop(reply.send(Err(reason))),
            }
        }
    }

    /// A receiver on another worker has opened a channel: serves
    /// [`WorkerService::channel`](crate::network::WorkerService::channel). Never blocks.
    pub fn opened(self: &Arc<Self>, open: &OpenChannel, link: SenderLink) {
        if let Some(reason) = self.objection(open) {
            refuse(&link, reason);
            return;
        }
        let channel = ChannelId::of(open);
        let sender = RemoteSender::new(channel, link, open.credit.as_ref());
        self.offer(channel, SenderEnd::Remote(sender));
    }

    /// What a receiver sends to open `channel`.
    pub(super) fn opening(&self, channel: ChannelId) -> OpenChannel {
        OpenChannel {
            protocol: PROTOCOL_VERSION,
            incarnation: self.incarnation.clone(),
            generation: channel.generation.0,
            edge: channel.edge,
            from: channel.from,
            to: channel.to,
            credit: Some(credit::opening_credit()),
            token: self.token.clone(),
        }
    }

    /// A receiver's end is there: hands it to the sender, or keeps it until the sender comes.
    pub(super) fn offer(self: &Arc<Self>, channel: ChannelId, end: SenderEnd) {
        let mut state = self.lock();
        if channel.generation < state.generation {
            let reason = superseded(channel.generation, state.generation);
            drop(state);
            return end.refuse(reason);
        }
        let serial = state.serial;
        state.serial += 1;
        match state.waiting.remove(&channel) {
            Some(Waiting::Sender { reply }) => {
                drop(state);
                if let Err(Ok(end)) = reply.send(Ok(end)) {
                    end.refuse("its sender is gone".to_owned());
                }
            }
            other => {
                state.waiting.insert(channel, Waiting::Receiver { end, serial });
                drop(state);
                if let Some(Waiting::Receiver { end, .. }) = other {
                    end.refuse("it was opened again".to_owned());
                }
                self.expire_later(channel, serial);
            }
        }
    }

    /// The sending end of `channel`, as soon as its receiver has opened it.
    ///
    /// Errors: refused because a newer generation began; not opened within [`OPEN_WAIT`].
    /// Cancel safety: a receiver that came meanwhile is told that its sender is gone.
    pub(super) async fn accept(&self, channel: ChannelId) -> Result<SenderEnd, ExchangeError> {
        let refused = |reason| ExchangeError::Refused { channel, reason };
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.lock();
            if channel.generation < state.generation {
                return Err(refused(superseded(channel.generation, state.generation)));
            }
            match state.waiting.remove(&channel) {
                Some(Waiting::Receiver { end, .. }) => return Ok(end),
                // An earlier sender of the same channel waits in vain: its answer is dropped.
                Some(Waiting::Sender { .. }) | None => {
                    state.waiting.insert(channel, Waiting::Sender { reply });
                }
            }
        }
        match clock::timeout(OPEN_WAIT, answer).await {
            Ok(Ok(Ok(end))) => Ok(end),
            Ok(Ok(Err(reason))) => Err(refused(reason)),
            Ok(Err(_)) => Err(refused("another sender of it came".to_owned())),
            Err(elapsed) => Err(ExchangeError::NotOpened { channel, waited: elapsed.0 }),
        }
    }

    fn expire_later(self: &Arc<Self>, channel: ChannelId, serial: u64) {
        let registry = Arc::downgrade(self);
        let expiry = async move {
            clock::sleep(OPEN_WAIT).await;
            if let Some(registry) = registry.upgrade() {
                registry.expire(channel, serial);
            }
        };
        task::spawn(expiry).detach();
    }

    fn expire(&self, channel: ChannelId, serial: u64) {
        let mut state = self.lock();
        match state.waiting.remove(&channel) {
            Some(Waiting::Receiver { end, serial: waiting }) if waiting == serial => {
                drop(state);
                end.refuse(format!("no subtask sends to it after {OPEN_WAIT:?}"));
            }
            Some(other) => {
                state.waiting.insert(channel, other);
            }
            None => {}
        }
    }

    /// Why a receiver is not served, if it is not.
    fn objection(&self, open: &OpenChannel) -> Option<String> {
        if open.protocol > PROTOCOL_VERSION || open.protocol == 0 {
            let found = open.protocol;
            return Some(format!("protocol {found}, this worker speaks {PROTOCOL_VERSION}"));
        }
        if !same(open.token.as_bytes(), self.token.as_bytes()) {
            return Some("wrong token".to_owned());
        }
        if open.incarnation != self.incarnation {
            let (theirs, ours) = (&open.incarnation, &self.incarnation);
            return Some(format!("incarnation {theirs}, this worker serves {ours}"));
        }
        None
    }
}

fn superseded(theirs: Generation, ours: Generation) -> String {
    format!("generation {theirs} is over, this worker runs {ours}")
}

/// Compares in a time that does not depend on where two tokens differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}
