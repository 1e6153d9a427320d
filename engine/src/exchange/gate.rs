//! The receiving ends of all channels into one stage instance.

use std::future::poll_fn;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use futures::future::try_join_all;
use tokio::sync::mpsc;
use weir_runtime::clock;
use weir_runtime::task::{self, Task};
use weir_state::ids::{CheckpointId, Generation};

use crate::exchange::channel::{LocalSender, SenderEnd};
use crate::exchange::codec::{self, CodecError};
use crate::exchange::credit::Cost;
use crate::exchange::error::{ChannelId, ExchangeError};
use crate::exchange::inbox::{Gone, Inbox, Item};
use crate::exchange::message::Message;
use crate::exchange::registry::{OPEN_WAIT, Registry};
use crate::network::{Network, ReceiverLink};
use crate::protocol::{Frame, ToSender, frame, to_sender};

/// One channel into a stage instance.
#[derive(Clone, Debug)]
pub struct Input {
    /// Ordinal of the edge in the job's graph.
    pub edge: u32,
    /// Source subtask.
    pub from: u32,
    /// Address of the worker that runs it; none: this worker.
    pub address: Option<String>,
    /// Columns of the edge's rows.
    pub schema: SchemaRef,
}

/// All channels into one stage instance; the place in the list given to [`InputGate::open`] names
/// a channel. Dropping the gate closes them.
#[derive(Debug)]
pub struct InputGate {
    inbox: Arc<Inbox>,
    inputs: Vec<Input>,
    /// Read the connections; dropping them ends them.
    _readers: Vec<Task<()>>,
}

impl InputGate {
    /// Opens all `inputs` of subtask `to`. Senders need not exist yet: their absence shows as
    /// [`ExchangeError::Refused`] in [`InputGate::next`]. Open the gate of a stage before its
    /// outputs, so that no two workers wait for each other.
    ///
    /// Errors: a worker that can't be dialled. Cancel safety: what was opened is closed again.
    pub async fn open(
        network: &Arc<dyn Network>,
        registry: &Arc<Registry>,
        generation: Generation,
        to: u32,
        inputs: Vec<Input>,
    ) -> Result<Self, ExchangeError> {
        let channel =
            |input: &Input| ChannelId { generation, edge: input.edge, from: input.from, to };
        let remote = inputs.iter().enumerate().filter(|(_, input)| input.address.is_some()).map(
            |(index, input)| async move {
                let link = dial(network, registry, channel(input), input).await?;
                Ok::<_, ExchangeError>((index, link))
            },
        );
        let links = try_join_all(remote).await?;
        let sides = inputs.iter().map(|input| (channel(input), input.address.is_none()));
        let inbox = Arc::new(Inbox::new(sides));
        for (index, input) in inputs.iter().enumerate() {
            if input.address.is_none() {
                let sender = LocalSender::new(channel(input), Arc::clone(&inbox), index);
                registry.offer(channel(input), SenderEnd::Local(sender));
            }
        }
        let read = |(index, link): (usize, ReceiverLink)| {
            let input: &Input = &inputs[index];
            let reader = Reader {
                channel: channel(input),
                schema: Arc::clone(&input.schema),
                inbox: Arc::clone(&inbox),
                input: index,
            };
            task::spawn(reader.run(link))
        };
        let readers = links.into_iter().map(read).collect();
        Ok(Self { inbox, inputs, _readers: readers })
    }

    /// The channels, as given to [`InputGate::open`].
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The next message, and the channel that it came from: all channels that have messages and
    /// are not blocked take turns, each in its own order. Waits for ever once all have ended.
    ///
    /// Errors: a channel broke or was refused; the messages before that were given out.
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<(usize, Message), ExchangeError> {
        poll_fn(|cx| self.inbox.poll_next(cx)).await
    }

    /// Whether [`InputGate::next`] would answer at once; if not, it is time to flush the outputs.
    pub fn is_ready(&self) -> bool {
        self.inbox.is_ready()
    }

    /// Reads nothing more of this channel, whose credit then stops its sender.
    pub fn block(&mut self, input: usize) {
        self.inbox.block(input);
    }

    /// The alignment is over: reads all channels again.
    pub fn unblock_all(&mut self) {
        self.inbox.unblock_all();
    }
}

#[cfg(test)]
impl InputGate {
    /// Rows that wait in a channel.
    pub(crate) fn inbox_rows(&self, input: usize) -> u64 {
        self.inbox.rows_waiting(input)
    }
}

impl Drop for InputGate {
    fn drop(&mut self) {
        self.inbox.leave();
    }
}

async fn dial(
    network: &Arc<dyn Network>,
    registry: &Arc<Registry>,
    channel: ChannelId,
    input: &Input,
) -> Result<ReceiverLink, ExchangeError> {
    let address = input.address.as_deref().unwrap_or_default();
    let opening = network.channel(address, registry.opening(channel));
    match clock::timeout(OPEN_WAIT, opening).await {
        Ok(link) => link.map_err(|cause| ExchangeError::Unreachable { channel, cause }),
        Err(elapsed) => Err(ExchangeError::NotOpened { channel, waited: elapsed.0 }),
    }
}

/// Moves one connection's messages into the inbox, and its credit back.
struct Reader {
    channel: ChannelId,
    schema: SchemaRef,
    inbox: Arc<Inbox>,
    input: usize,
}

enum Event {
    Frame(Frame),
    CreditSent,
    Over,
}

impl Reader {
    async fn run(self, link: ReceiverLink) {
        let ReceiverLink { send, mut receive } = link;
        loop {
            let event = tokio::select! {
                biased;
                sent = self.credit(&send) => sent,
                frame = receive.recv() => frame.map_or(Event::Over, Event::Frame),
            };
            let frame = match event {
                Event::Frame(frame) => frame,
                Event::CreditSent => continue,
                Event::Over => return self.inbox.close(self.input, None),
            };
            match self.item(frame) {
                Ok(item) => {
                    let mut item = Some(item);
                    let pushed = poll_fn(|cx| self.inbox.poll_push(self.input, &mut item, cx));
                    if let Err(Gone) = pushed.await {
                        return;
                    }
                }
                Err(error) => return self.inbox.close(self.input, Some(error)),
            }
        }
    }

    /// Sends credit when it is due and the connection takes it; not before, so it is cancel safe.
    async fn credit(&self, send: &mpsc::Sender<ToSender>) -> Event {
        poll_fn(|cx| self.inbox.poll_credit_due(self.input, cx)).await;
        match send.reserve().await {
            Ok(permit) => {
                let credit = self.inbox.take_credit(self.input);
                permit.send(ToSender { body: Some(to_sender::Body::Credit(credit)) });
                Event::CreditSent
            }
            Err(_) => Event::Over,
        }
    }

    fn item(&self, frame: Frame) -> Result<Item, ExchangeError> {
        let channel = self.channel;
        let damaged = |cause| ExchangeError::Damaged { channel, cause };
        let message = match frame.body {
            Some(frame::Body::Rows(bytes)) => {
                let rows = codec::decode(&bytes, &self.schema).map_err(damaged)?;
                let cost = Cost { rows: rows.len() as u64, bytes: bytes.len() as u64 };
                return Ok((Message::Rows(rows), cost));
            }
            Some(frame::Body::Progress(progress)) => Message::Progress(progress),
            Some(frame::Body::WatermarkMs(watermark_ms)) => Message::Watermark(watermark_ms),
            Some(frame::Body::Barrier(checkpoint)) => Message::Barrier(CheckpointId(checkpoint)),
            Some(frame::Body::End(_)) => Message::End,
            Some(frame::Body::Refused(reason)) => {
                return Err(ExchangeError::Refused { channel, reason });
            }
            None => return Err(damaged(CodecError::Unexpected("frame without a body"))),
        };
        Ok((message, Cost::default()))
    }
}
