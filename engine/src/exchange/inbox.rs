//! The queues of one gate: filled by senders on the same worker and by readers of connections,
//! emptied by the stage that owns the gate.
//!
//! One lock for all queues of a gate; nothing waits while holding it. A queue that has something
//! to read stands in `ready` once; the reader takes one message from the first and puts it back
//! at the end, so no channel starves. A queue is bounded by credit (rows) and by
//! [`QUEUE_ITEMS_MAX`]; progress and watermarks merge with an equal one at the end of the queue,
//! never across a barrier or rows.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use weir_runtime::clock;

use crate::exchange::credit::{Cost, Receipts, WINDOW_START, Window};
use crate::exchange::error::{ChannelId, ExchangeError};
use crate::exchange::message::Message;
use crate::exchange::progress;
use crate::protocol::Credit;

/// Greatest number of messages that wait in one channel.
const QUEUE_ITEMS_MAX: usize = 1 << 16;

/// The gate is gone; nobody will read what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// A message, and what it costs if it is rows.
pub(super) type Item = (Message, Cost);

/// All channels into one stage instance.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queues: Vec<Queue>,
    /// Queues that have something to read and are not blocked, each once.
    ready: VecDeque<usize>,
    reader: Option<Waker>,
    gone: bool,
}

#[derive(Debug)]
struct Queue {
    channel: ChannelId,
    items: VecDeque<Item>,
    /// Stands in `ready`.
    listed: bool,
    /// Not read until the alignment is over.
    blocked: bool,
    /// `End` was read: a sender that goes away now is no error.
    ended: bool,
    /// The sender is gone; told to the reader behind all messages.
    closed: Option<Option<ExchangeError>>,
    receipts: Receipts,
    credit: CreditWay,
    /// The sender, waiting for credit or space.
    writer: Option<Waker>,
}

/// How credit reaches the sender.
#[derive(Debug)]
enum CreditWay {
    /// It looks at the window itself.
    Local(Window),
    /// The connection's reader sends it when `due`.
    Remote { due: bool, waker: Option<Waker> },
}

impl Inbox {
    /// An inbox of these channels; `true`: the sender is on this worker.
    pub(super) fn new(channels: impl IntoIterator<Item = (ChannelId, bool)>) -> Self {
        let now = clock::now();
        let queue = |(channel, local)| Queue {
            channel,
            items: VecDeque::new(),
            listed: false,
            blocked: false,
            ended: false,
            closed: None,
            receipts: Receipts::new(now),
            credit: match local {
                true => CreditWay::Local(Window::new(WINDOW_START)),
                false => CreditWay::Remote { due: false, waker: None },
            },
            writer: None,
        };
        let queues = channels.into_iter().map(queue).collect();
        let state = State { queues, ready: VecDeque::new(), reader: None, gone: false };
        Self { state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `item` into the queue, or waits for credit and space and leaves it where it is.
    pub(super) fn poll_push(
        &self,
        input: usize,
        item: &mut Option<Item>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Gone>> {
        let mut state = self.lock();
        if state.gone {
            return Poll::Ready(Err(Gone));
        }
        let queue = &mut state.queues[input];
        let Some((message, cost)) = item.take() else {
            return Poll::Ready(Ok(()));
        };
        if let Some(refused) = queue.push(message, cost) {
            *item = Some(refused);
            queue.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let reader = state.list(input);
        drop(state);
        wake(reader);
        Poll::Ready(Ok(()))
    }

    /// No more messages come from this sender; `why` if that is not its own doing.
    pub(super) fn close(&self, input: usize, why: Option<ExchangeError>) {
        let mut state = self.lock();
        let queue = &mut state.queues[input];
        if queue.closed.is_some() {
            return;
        }
        queue.closed = Some(why);
        let reader = state.list(input);
        drop(state);
        wake(reader);
    }

    /// The next message in turn. What is returned is taken; nothing is taken while pending.
    pub(super) fn poll_next(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(usize, Message), ExchangeError>> {
        let mut state = self.lock();
        while let Some(input) = state.ready.pop_front() {
            let queue = &mut state.queues[input];
            queue.listed = false;
            if queue.blocked {
                continue;
            }
            if let Some((message, wakers)) = queue.pop() {
                let again = !queue.items.is_empty() || queue.closed.is_some();
                if again {
                    queue.listed = true;
                    state.ready.push_back(input);
                }
                drop(state);
                wakers.into_iter().for_each(wake);
                return Poll::Ready(Ok((input, message)));
            }
            if let Some(error) = queue.parting() {
                return Poll::Ready(Err(error));
            }
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether a message could be read at once.
    pub(super) fn is_ready(&self) -> bool {
        let state = self.lock();
        state.ready.iter().any(|input| !state.queues[*input].blocked)
    }

    /// Reads nothing more of this channel.
    pub(super) fn block(&self, input: usize) {
        let queue = &mut self.lock().queues[input];
        queue.blocked = true;
        queue.receipts.paused();
    }

    /// Reads all channels again.
    pub(super) fn unblock_all(&self) {
        let mut state = self.lock();
        let mut reader = None;
        for input in 0..state.queues.len() {
            if mem::take(&mut state.queues[input].blocked) {
                reader = state.list(input).or(reader);
            }
        }
        drop(state);
        wake(reader);
    }

    /// Waits until credit is worth sending to the sender of this (remote) channel.
    pub(super) fn poll_credit_due(&self, input: usize, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.lock().queues[input].credit {
            CreditWay::Remote { due: true, .. } => Poll::Ready(()),
            CreditWay::Remote { waker, .. } => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            CreditWay::Local(_) => Poll::Pending,
        }
    }

    /// The credit to send now.
    pub(super) fn take_credit(&self, input: usize) -> Credit {
        let queue = &mut self.lock().queues[input];
        if let CreditWay::Remote { due, .. } = &mut queue.credit {
            *due = false;
        }
        queue.receipts.settle()
    }

    #[cfg(test)]
    pub(super) fn rows_waiting(&self, input: usize) -> u64 {
        self.lock().queues[input].items.iter().map(|(_, cost)| cost.rows).sum()
    }

    /// The reader is gone: senders learn it at their next message.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        state.gone = true;
        let mut writers = Vec::new();
        for queue in &mut state.queues {
            queue.items.clear();
            writers.push(queue.writer.take());
        }
        drop(state);
        writers.into_iter().for_each(wake);
    }
}

impl State {
    /// Puts a queue that has something to read into `ready`; gives the reader to wake.
    fn list(&mut self, input: usize) -> Option<Waker> {
        let queue = &mut self.queues[input];
        let something = !queue.items.is_empty() || queue.closed.is_some();
        if queue.listed || queue.blocked || !something {
            return None;
        }
        queue.listed = true;
        self.ready.push_back(input);
        self.reader.take()
    }
}

impl Queue {
    /// Takes a message in, or gives it back when there is no credit or space.
    fn push(&mut self, message: Message, cost: Cost) -> Option<Item> {
        // Merged into the last one: nothing is left over.
        let message = merge(self.items.back_mut(), message)?;
        if self.items.len() >= QUEUE_ITEMS_MAX {
            return Some((message, cost));
        }
        if let (Message::Rows(_), CreditWay::Local(window)) = (&message, &mut self.credit) {
            if !window.admits(cost) {
                return Some((message, cost));
            }
            window.take(cost);
        }
        self.items.push_back((message, cost));
        None
    }

    /// The first message, and whom its leaving wakes.
    fn pop(&mut self) -> Option<(Message, [Option<Waker>; 2])> {
        let (message, cost) = self.items.pop_front()?;
        let mut wakers = [self.writer.take(), None];
        match &message {
            Message::Rows(_) => self.receipts.consumed(cost, self.items.is_empty(), clock::now()),
            Message::End => self.ended = true,
            Message::Progress(_) | Message::Watermark(_) | Message::Barrier(_) => {}
        }
        match &mut self.credit {
            CreditWay::Local(window) => {
                let (returned, limit) = super::credit::read(&self.receipts.settle());
                window.give_back(returned, limit);
            }
            CreditWay::Remote { due, waker } => {
                if self.receipts.is_due(self.items.is_empty()) {
                    *due = true;
                    wakers[1] = waker.take();
                }
            }
        }
        Some((message, wakers))
    }

    /// The error of a sender that went away too early, once.
    fn parting(&mut self) -> Option<ExchangeError> {
        let why = self.closed.as_mut()?.take();
        let silent = mem::replace(&mut self.ended, true);
        why.or((!silent).then_some(ExchangeError::Disconnected { channel: self.channel }))
    }
}

/// Merges `message` into the last one of the queue, or gives it back.
fn merge(last: Option<&mut Item>, message: Message) -> Option<Message> {
    match (last, message) {
        (Some((Message::Progress(last), _)), Message::Progress(later)) => {
            progress::merge(last, later);
            None
        }
        (Some((Message::Watermark(last), _)), Message::Watermark(later)) => {
            *last = later.max(*last);
            None
        }
        (_, message) => Some(message),
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use weir_state::ids::{CheckpointId, Generation};

    use super::*;

    #[test]
    fn a_queue_takes_no_more_messages_than_its_limit() {
        let channel = ChannelId { generation: Generation(1), edge: 0, from: 0, to: 0 };
        let inbox = Inbox::new([(channel, false)]);
        let mut cx = Context::from_waker(Waker::noop());
        let mut push = || {
            let mut item = Some((Message::Barrier(CheckpointId(1)), Cost::default()));
            let pushed = inbox.poll_push(0, &mut item, &mut cx);
            assert_eq!(pushed.is_pending(), item.is_some(), "what is not taken stays");
            pushed.is_ready()
        };
        assert_eq!((0..QUEUE_ITEMS_MAX + 10).filter(|_| push()).count(), QUEUE_ITEMS_MAX);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(inbox.poll_next(&mut cx).is_ready());
        assert!(push() && !push());
    }
}
