//! Work on the rows of one key: what it is, what it asks of the state, what it is told.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use weir_state::ids::KeyGroup;
use weir_state::key::{StateId, StateKey};
use weir_state::shard::{MapChunk, Shard};
use weir_state::{Access, StateError};

use super::Logic;
use crate::execution::epochs::Epoch;

/// Whose rows they are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The key's group.
    pub(crate) group: KeyGroup,
    /// Canonical key.
    pub(crate) key: Bytes,
}

impl Place {
    /// The key's value, list or map in a state of the step.
    pub(crate) fn state(&self, state: StateId, namespace: &[u8]) -> StateKey {
        StateKey::new(self.group, state, &self.key, namespace)
    }
}

/// Something to do for a key.
#[derive(Debug)]
pub(crate) enum Item<R> {
    /// A row came.
    Row {
        row: R,
        /// The watermark that had arrived, or the clock where the step goes by that.
        now_ms: i64,
    },
    /// A timer of the key is due.
    Timer {
        /// The time that it was set to.
        set_ms: i64,
        namespace: Bytes,
        /// The watermark that made it due, or the clock.
        now_ms: i64,
    },
}

/// What is to be done for one key, in order.
#[derive(Debug)]
pub(crate) struct Work<R> {
    pub(crate) place: Place,
    pub(crate) items: Vec<Item<R>>,
    /// Its rows by the epoch in which they arrived.
    pub(crate) arrived: Vec<(Epoch, usize)>,
    /// What its rows take up, in bytes.
    pub(crate) bytes: usize,
}

impl<R> Work<R> {
    /// Nothing yet.
    pub(crate) fn new(place: Place) -> Self {
        Self { place, items: Vec::new(), arrived: Vec::new(), bytes: 0 }
    }

    /// Adds what came later.
    pub(crate) fn join(&mut self, later: Self) {
        self.items.extend(later.items);
        self.arrived.extend(later.arrived);
        self.bytes += later.bytes;
    }
}

/// A question to the state. The states that hold values and those that hold maps have different
/// numbers.
#[derive(Debug)]
pub(crate) enum Want {
    /// A value.
    Value(StateKey),
    /// Some entries of a map.
    Entries(StateKey, Vec<Bytes>),
    /// The next entries of a map, from a map key on.
    Chunk { map: StateKey, from: Option<Bytes>, limit: usize },
}

/// The answer to the question at the same place.
#[derive(Debug)]
pub(crate) enum Answer {
    Value(Option<Bytes>),
    Entries(Vec<Option<Bytes>>),
    Chunk(MapChunk),
}

/// Work under way.
pub(crate) struct Running<L: Logic> {
    pub(super) work: Work<L::Row>,
    pub(super) loaded: L::Loaded,
    /// Answers to what it asked last.
    pub(super) answers: Vec<Answer>,
    /// Whether it holds its key.
    pub(super) is_held: bool,
}

impl<L: Logic> Running<L> {
    pub(super) fn new(work: Work<L::Row>) -> Self {
        Self { work, loaded: L::Loaded::default(), answers: Vec::new(), is_held: false }
    }
}

/// Answers for each piece of work, on their way.
pub(super) type Answers = BoxFuture<'static, Result<Vec<Vec<Answer>>, StateError>>;

/// Work that waits for its answers.
pub(crate) struct Reading<L: Logic> {
    waiting: Vec<Running<L>>,
    answers: Answers,
}

impl<L: Logic> Unpin for Reading<L> {}

impl<L: Logic> Reading<L> {
    pub(super) fn new(waiting: Vec<Running<L>>, answers: Answers) -> Self {
        Self { waiting, answers }
    }
}

impl<L: Logic> Future for Reading<L> {
    type Output = (Vec<Running<L>>, Result<Vec<Vec<Answer>>, StateError>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answers = self.answers.poll_unpin(cx);
        answers.map(|answers| (std::mem::take(&mut self.waiting), answers))
    }
}

/// What [`ask`] gives.
pub(super) enum Asked {
    Ready(Vec<Vec<Answer>>),
    Pending(Answers),
}

/// Asks all questions of many pieces of work at once, values with one read.
pub(super) fn ask(shard: &Shard, wants: Vec<Vec<Want>>) -> Asked {
    let mut answers: Vec<Vec<Answer>> = Vec::with_capacity(wants.len());
    let (mut places, mut values, mut reads) = (Vec::new(), Vec::new(), Vec::new());
    for (work, wants) in wants.into_iter().enumerate() {
        // Each answer takes the place of one like this.
        answers.push(wants.iter().map(|_| Answer::Value(None)).collect());
        for (number, want) in wants.into_iter().enumerate() {
            let place = (work, number);
            match want {
                Want::Value(key) => {
                    places.push(place);
                    values.push(key);
                }
                Want::Entries(map, keys) => match shard.map_get(&map, &keys) {
                    Access::Ready(found) => answers[work][number] = Answer::Entries(found),
                    Access::Pending(read) => reads.push(
                        async move { Ok(vec![(place, Answer::Entries(read.await?))]) }.boxed(),
                    ),
                },
                Want::Chunk { map, from, limit } => {
                    match shard.map_chunk(&map, from.as_ref(), limit) {
                        Access::Ready(chunk) => answers[work][number] = Answer::Chunk(chunk),
                        Access::Pending(read) => reads.push(
                            async move { Ok(vec![(place, Answer::Chunk(read.await?))]) }.boxed(),
                        ),
                    }
                }
            }
        }
    }
    let placed = |values: Vec<Option<Bytes>>| {
        places.into_iter().zip(values.into_iter().map(Answer::Value)).collect::<Vec<_>>()
    };
    match shard.multi_get(&values) {
        Access::Ready(values) => put(&mut answers, placed(values)),
        Access::Pending(read) => reads.push(async move { Ok(placed(read.await?)) }.boxed()),
    }
    if reads.is_empty() {
        return Asked::Ready(answers);
    }
    let read = async move {
        for found in try_join_all(reads).await? {
            put(&mut answers, found);
        }
        Ok(answers)
    };
    Asked::Pending(read.boxed())
}

fn put(answers: &mut [Vec<Answer>], found: Vec<((usize, usize), Answer)>) {
    for ((work, number), answer) in found {
        answers[work][number] = answer;
    }
}
