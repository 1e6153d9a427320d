//! The sending end of one channel: a queue on the same worker, or a connection.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::sync::mpsc::error::TryRecvError;

use crate::exchange::codec::{self, CodecError};
use crate::exchange::credit::{self, Cost, WINDOW_START, Window};
use crate::exchange::error::{ChannelId, ExchangeError};
use crate::exchange::inbox::{Inbox, Item};
use crate::exchange::message::Message;
use crate::network::SenderLink;
use crate::protocol::{Credit, Frame, frame};
use crate::rows::Rows;

/// The sending end of one channel. Dropping it before `End` was sent is an error at the receiver.
#[derive(Debug)]
pub(crate) enum SenderEnd {
    /// The receiver is on the same worker.
    Local(LocalSender),
    /// The receiver has opened a connection.
    Remote(RemoteSender),
}

impl SenderEnd {
    /// Sends rows as soon as there is credit. Not cancel safe: part of them may be gone.
    pub(crate) async fn send(&mut self, rows: Rows) -> Result<(), ExchangeError> {
        match self {
            Self::Local(sender) => {
                let bytes = rows.size_bytes() as u64;
                let cost = Cost { rows: rows.len() as u64, bytes };
                sender.push((Message::Rows(rows), cost)).await
            }
            Self::Remote(sender) => sender.send(rows).await,
        }
    }

    /// Sends anything but rows; needs no credit. Not cancel safe.
    pub(crate) async fn tell(&mut self, message: Message) -> Result<(), ExchangeError> {
        match self {
            Self::Local(sender) => sender.push((message, Cost::default())).await,
            Self::Remote(sender) => sender.tell(message).await,
        }
    }

    /// Tells the receiver why it is not served.
    pub(crate) fn refuse(self, reason: String) {
        match self {
            Self::Local(sender) => {
                let channel = sender.channel;
                let refused = ExchangeError::Refused { channel, reason };
                sender.inbox.close(sender.input, Some(refused));
            }
            Self::Remote(sender) => refuse(&sender.link, reason),
        }
    }
}

/// Tells a receiver why it is not served. The link ends when it is dropped.
pub(crate) fn refuse(link: &SenderLink, reason: String) {
    tracing::warn!(reason, "refused a channel");
    // A link that takes nothing any more has nobody to tell.
    let _ = link.send.try_send(Frame { body: Some(frame::Body::Refused(reason)) });
}

/// Sends into a gate of the same worker.
#[derive(Debug)]
pub(crate) struct LocalSender {
    channel: ChannelId,
    inbox: Arc<Inbox>,
    input: usize,
}

impl LocalSender {
    pub(super) fn new(channel: ChannelId, inbox: Arc<Inbox>, input: usize) -> Self {
        Self { channel, inbox, input }
    }

    async fn push(&mut self, item: Item) -> Result<(), ExchangeError> {
        let mut item = Some(item);
        let pushed = poll_fn(|cx| self.inbox.poll_push(self.input, &mut item, cx)).await;
        pushed.map_err(|_| ExchangeError::Disconnected { channel: self.channel })
    }
}

impl Drop for LocalSender {
    fn drop(&mut self) {
        self.inbox.close(self.input, None);
    }
}

/// Sends over a connection that the receiver has opened.
#[derive(Debug)]
pub(crate) struct RemoteSender {
    channel: ChannelId,
    link: SenderLink,
    window: Window,
}

impl RemoteSender {
    /// `credit` is what the receiver opened the channel with.
    pub(crate) fn new(channel: ChannelId, link: SenderLink, credit: Option<&Credit>) -> Self {
        let limit = credit.map_or(WINDOW_START, |credit| credit::read(credit).1);
        Self { channel, link, window: Window::new(limit) }
    }

    async fn send(&mut self, rows: Rows) -> Result<(), ExchangeError> {
        let mut parts = vec![rows];
        while let Some(rows) = parts.pop() {
            match codec::encode(&rows) {
                Ok(bytes) => {
                    let cost = Cost { rows: rows.len() as u64, bytes: bytes.len() as u64 };
                    self.wait_for_credit(cost).await?;
                    self.window.take(cost);
                    self.put(frame::Body::Rows(bytes)).await?;
                }
                Err(CodecError::TooLarge { .. }) if rows.cut(rows.len() / 2) < rows.len() => {
                    let half = rows.cut(rows.len() / 2);
                    parts.push(rows.slice(half, rows.len() - half));
                    parts.push(rows.slice(0, half));
                }
                Err(cause) => {
                    return Err(ExchangeError::Unsendable { channel: self.channel, cause });
                }
            }
        }
        Ok(())
    }

    async fn tell(&mut self, message: Message) -> Result<(), ExchangeError> {
        let body = match message {
            Message::Rows(rows) => return self.send(rows).await,
            Message::Progress(progress) => frame::Body::Progress(progress),
            Message::Watermark(watermark_ms) => frame::Body::WatermarkMs(watermark_ms),
            Message::Barrier(checkpoint) => frame::Body::Barrier(checkpoint.0),
            Message::End => frame::Body::End(true),
        };
        self.put(body).await
    }

    async fn put(&mut self, body: frame::Body) -> Result<(), ExchangeError> {
        let sent = self.link.send.send(Frame { body: Some(body) }).await;
        sent.map_err(|_| self.disconnected())
    }

    async fn wait_for_credit(&mut self, cost: Cost) -> Result<(), ExchangeError> {
        loop {
            match self.link.receive.try_recv() {
                Ok(message) => self.credited(message)?,
                Err(TryRecvError::Disconnected) => return Err(self.disconnected()),
                Err(TryRecvError::Empty) if self.window.admits(cost) => return Ok(()),
                Err(TryRecvError::Empty) => match self.link.receive.recv().await {
                    Some(message) => self.credited(message)?,
                    None => return Err(self.disconnected()),
                },
            }
        }
    }

    fn credited(&mut self, message: crate::protocol::ToSender) -> Result<(), ExchangeError> {
        let Some(crate::protocol::to_sender::Body::Credit(credit)) = message.body else {
            let cause = CodecError::Unexpected("message instead of credit");
            return Err(ExchangeError::Damaged { channel: self.channel, cause });
        };
        let (returned, limit) = credit::read(&credit);
        self.window.give_back(returned, limit);
        Ok(())
    }

    fn disconnected(&self) -> ExchangeError {
        ExchangeError::Disconnected { channel: self.channel }
    }
}
