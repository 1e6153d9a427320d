//! Watermark epochs (FLIP-425): a watermark moves on when all rows before it are done.
//!
//! Pure. An epoch is the stretch between two watermarks. In relaxed order rows of later epochs are
//! started while earlier ones still wait for state; their watermarks stay here in order. A watermark
//! that is released has its timers run by the caller and only then is forwarded.
//!
//! What must stay true:
//! 1. Watermarks are released in order, each once, and each only when every row that arrived before
//!    it is done.
//! 2. A watermark that changes nothing opens no epoch; adjacent ones without rows between are one.

use std::collections::VecDeque;

use weir_runtime::sim::planted::{Planted, planted};

/// Number of an epoch; grows with every watermark that has rows before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch(u64);

/// The epochs whose watermark is not released yet.
#[derive(Debug)]
pub(crate) struct Epochs {
    /// Closed ones in order; the last entry is the open one.
    queue: VecDeque<Stretch>,
    /// Number of the front entry.
    first: u64,
    /// The greatest watermark that arrived.
    arrived: i64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    /// Items that arrived in it and are not done.
    undone: usize,
    /// The watermark at its end; none: the epoch is open.
    watermark: Option<i64>,
}

impl Epochs {
    /// With `watermark` as already released.
    pub(crate) fn new(watermark: i64) -> Self {
        Self { queue: VecDeque::from([Stretch::default()]), first: 0, arrived: watermark }
    }

    /// The watermark against which rows that arrive now are judged.
    pub(crate) fn arrived(&self) -> i64 {
        self.arrived
    }

    /// Epochs that are not over.
    pub(crate) fn open(&self) -> usize {
        self.queue.len()
    }

    /// `items` arrive; they belong to the epoch that is given back.
    pub(crate) fn arrive(&mut self, items: usize) -> Epoch {
        let last = self.queue.len() - 1;
        self.queue[last].undone += items;
        Epoch(self.first + last as u64)
    }

    /// `items` of `epoch` are done.
    pub(crate) fn done(&mut self, epoch: Epoch, items: usize) {
        if epoch.0 < self.first && planted(Planted::EpochOvertaken) {
            return;
        }
        let place = usize::try_from(epoch.0 - self.first).expect("an epoch with items stays");
        let stretch = &mut self.queue[place];
        debug_assert!(items <= stretch.undone, "an item is done once");
        stretch.undone = stretch.undone.saturating_sub(items);
    }

    /// A watermark arrives. One that does not grow is ignored.
    pub(crate) fn watermark(&mut self, watermark: i64) {
        if watermark <= self.arrived {
            return;
        }
        self.arrived = watermark;
        let last = self.queue.len() - 1;
        if self.queue[last].undone == 0 && last > 0 {
            // Nothing arrived since the watermark before: the newer one stands for both.
            self.queue[last - 1].watermark = Some(watermark);
            return;
        }
        self.queue[last].watermark = Some(watermark);
        self.queue.push_back(Stretch::default());
    }

    /// The greatest watermark before which everything is done, if it was not released before.
    pub(crate) fn release(&mut self) -> Option<i64> {
        let mut released = None;
        while let Some(Stretch { undone, watermark: Some(watermark) }) = self.queue.front() {
            if *undone > 0 && !planted(Planted::EpochOvertaken) {
                break;
            }
            released = Some(*watermark);
            self.queue.pop_front();
            self.first += 1;
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::execution::admission::Admission;

    #[test]
    fn watermark_without_rows_is_released_at_once() {
        let mut epochs = Epochs::new(i64::MIN);
        epochs.watermark(5);
        epochs.watermark(7);
        assert_eq!(epochs.release(), Some(7));
        assert_eq!(epochs.release(), None);
    }

    #[test]
    fn watermark_waits_for_rows_before_it_only() {
        let mut epochs = Epochs::new(i64::MIN);
        let early = epochs.arrive(2);
        epochs.watermark(5);
        let later = epochs.arrive(1);
        assert_eq!(epochs.release(), None);
        epochs.done(early, 1);
        assert_eq!(epochs.release(), None);
        epochs.done(early, 1);
        assert_eq!(epochs.release(), Some(5));
        epochs.watermark(6);
        assert_eq!(epochs.release(), None);
        epochs.done(later, 1);
        assert_eq!(epochs.release(), Some(6));
    }

    #[test]
    fn later_epochs_may_end_first() {
        let mut epochs = Epochs::new(i64::MIN);
        let early = epochs.arrive(1);
        epochs.watermark(5);
        let later = epochs.arrive(1);
        epochs.watermark(6);
        epochs.done(later, 1);
        assert_eq!(epochs.release(), None);
        epochs.done(early, 1);
        assert_eq!(epochs.release(), Some(6));
    }

    #[test]
    fn watermarks_never_go_back() {
        let mut epochs = Epochs::new(10);
        epochs.watermark(9);
        epochs.watermark(10);
        assert_eq!((epochs.release(), epochs.arrived(), epochs.open()), (None, 10, 1));
    }

    #[derive(Clone, Debug)]
    enum Op {
        /// Rows of these keys arrive in one batch.
        Batch(Vec<u8>),
        Watermark(i64),
        /// The started unit at this place (modulo) gets its state.
        Complete(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => prop::collection::vec(0..4u8, 1..6).prop_map(Op::Batch),
            1 => (0..50i64).prop_map(Op::Watermark),
            3 => any::<usize>().prop_map(Op::Complete),
        ]
    }

    type Item = (u8, u64, Epoch);

    /// Admission and epochs together, as the keyed head uses them.
    #[derive(Default)]
    struct Model {
        next_row: u64,
        units: Vec<Vec<Item>>,
        processed: BTreeMap<u8, Vec<u64>>,
        arrived: Vec<(u64, i64)>,
    }

    fn key(name: u8) -> Bytes {
        Bytes::copy_from_slice(&[name])
    }

    impl Model {
        fn batch(&mut self, keys: &[u8], admission: &mut Admission<Item>, epochs: &mut Epochs) {
            let epoch = epochs.arrive(keys.len());
            let mut by_key: BTreeMap<u8, Vec<Item>> = BTreeMap::new();
            for name in keys {
                by_key.entry(*name).or_default().push((*name, self.next_row, epoch));
                self.next_row += 1;
            }
            let mut unit = Vec::new();
            for (name, items) in by_key {
                if admission.is_busy(&key(name)) {
                    for item in items {
                        assert_eq!(admission.wait(&key(name), item), None);
                    }
                } else {
                    admission.start(key(name));
                    unit.extend(items);
                }
            }
            self.units.push(unit);
        }

        fn complete(&mut self, at: usize, admission: &mut Admission<Item>, epochs: &mut Epochs) {
            if self.units.is_empty() {
                return;
            }
            let unit = self.units.remove(at % self.units.len());
            let mut keys: Vec<u8> = unit.iter().map(|item| item.0).collect();
            keys.dedup();
            for (name, row, epoch) in unit {
                self.processed.entry(name).or_default().push(row);
                epochs.done(epoch, 1);
            }
            let mut next = Vec::new();
            for name in keys {
                let waited = admission.end(&key(name));
                if !waited.is_empty() {
                    admission.start(key(name));
                    next.extend(waited);
                }
            }
            if !next.is_empty() {
                self.units.push(next);
            }
        }

        /// Rows below this number are done, all of them.
        fn done_prefix(&self) -> u64 {
            let mut rows: Vec<u64> = self.processed.values().flatten().copied().collect();
            rows.sort_unstable();
            let gap = rows.iter().enumerate().find(|(place, row)| *place as u64 != **row);
            gap.map_or(rows.len() as u64, |(place, _)| place as u64)
        }
    }

    proptest! {
        /// Whatever completes when: rows of a key run in order, each once, and a watermark is
        /// released exactly when everything that came before it is done.
        #[test]
        fn any_interleaving_keeps_key_order_and_watermarks(
            ops in prop::collection::vec(op(), 0..120)
        ) {
            let (mut admission, mut epochs) = (Admission::new(), Epochs::new(i64::MIN));
            let mut model = Model::default();
            let mut released = i64::MIN;
            let drain = (0..1_000).map(|_| Op::Complete(0));
            for op in ops.into_iter().chain(drain) {
                match op {
                    Op::Batch(keys) => model.batch(&keys, &mut admission, &mut epochs),
                    Op::Complete(at) => model.complete(at, &mut admission, &mut epochs),
                    Op::Watermark(watermark) => {
                        if watermark > epochs.arrived() {
                            model.arrived.push((model.next_row, watermark));
                        }
                        epochs.watermark(watermark);
                    }
                }
                released = epochs.release().unwrap_or(released);
                let done = model.done_prefix();
                let due = model.arrived.iter().filter(|(rows, _)| *rows <= done);
                let due = due.map(|(_, watermark)| *watermark).max().unwrap_or(i64::MIN);
                prop_assert_eq!(released, due);
            }
            prop_assert!(admission.is_idle());
            prop_assert_eq!(admission.waiting(), 0);
            for rows in model.processed.values() {
                prop_assert!(rows.is_sorted());
            }
            prop_assert_eq!(model.done_prefix(), model.next_row);
        }
    }
}
