//! The answer of a read: at once when everything is in memory, else a future.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::error::StateError;

/// The answer of a read.
#[must_use]
pub enum Access<T> {
    /// Everything was in memory.
    Ready(T),
    /// Something must be read from the object store.
    Pending(Pending<T>),
}

/// The answers of a `multi_get`, in the order of its keys; `None` where a key is absent. They share
/// one piece of memory: to be used and dropped together.
pub type Get = Access<Vec<Option<Bytes>>>;

/// A read that goes on. It borrows nothing from its shard and sees the state as it was when the
/// read was asked for.
///
/// Cancel safety: may be dropped at any time; nothing but the answer is lost.
#[must_use = "a read does nothing unless it is awaited"]
pub struct Pending<T>(BoxFuture<'static, Result<T, StateError>>);

impl<T> Pending<T> {
    pub(crate) fn new(read: impl Future<Output = Result<T, StateError>> + Send + 'static) -> Self {
        Self(read.boxed())
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, StateError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_unpin(cx)
    }
}

impl<T: Send + 'static> Access<T> {
    /// The answer, waiting for it if need be.
    ///
    /// Errors: those of reading the store, and damage found in what was read.
    pub async fn wait(self) -> Result<T, StateError> {
        match self {
            Self::Ready(answer) => Ok(answer),
            Self::Pending(read) => read.await,
        }
    }

    /// Whether the answer is already here.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }

    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U + Send + 'static) -> Access<U> {
        match self {
            Self::Ready(answer) => Access::Ready(change(answer)),
            Self::Pending(read) => Access::Pending(Pending::new(async { read.await.map(change) })),
        }
    }
}

/// Answers of a `multi_get` while they are gathered: one piece of memory for all of them.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    bytes: Vec<u8>,
    places: Vec<Option<Range<usize>>>,
}

impl Answers {
    pub(crate) fn for_keys(count: usize) -> Self {
        Self { bytes: Vec::new(), places: Vec::with_capacity(count) }
    }

    /// The answer for the next key.
    #[inline]
    pub(crate) fn push(&mut self, value: Option<&[u8]>) {
        let place = value.map(|value| self.copy(value));
        self.places.push(place);
    }

    /// The answer for a key of which nothing was known yet.
    pub(crate) fn set(&mut self, slot: usize, value: &[u8]) {
        self.places[slot] = Some(self.copy(value));
    }

    /// All answers. What is kept of one keeps all of them in memory.
    pub(crate) fn finish(self) -> Vec<Option<Bytes>> {
        let bytes = Bytes::from(self.bytes);
        self.places.into_iter().map(|place| place.map(|place| bytes.slice(place))).collect()
    }

    #[inline]
    fn copy(&mut self, value: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        start..self.bytes.len()
    }
}

impl<T> std::fmt::Debug for Access<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ready(_) => "Ready",
            Self::Pending(_) => "Pending",
        })
    }
}
