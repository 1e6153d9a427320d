//! Tests of orders and results: plain values in, plain values out.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::compaction::choose;
use crate::ids::{CheckpointId, Generation, KeyGroup, KeyGroupRange};
use crate::key::{StateId, StateKey};

const RANGE: KeyGroupRange = KeyGroupRange { start: 0, end: 100 };
const CUT: FileCut = FileCut { block_bytes: 64, table_bytes: 1_000 };

fn key(group: u16) -> Bytes {
    StateKey::new(KeyGroup(group), StateId(0), b"k", b"").composite().clone()
}

fn record(name: String, groups: (u16, u16)) -> ViewRecord {
    ViewRecord {
        name,
        bytes: 500,
        entries: 10,
        tail_bytes: 50,
        first_key: key(groups.0),
        last_key: key(groups.1),
        view_bytes: 500,
        ..ViewRecord::default()
    }
}

/// A version with this many flushes over the groups.
fn version(flushes: u64, groups: (u16, u16)) -> Version {
    let mut version = Version::empty("s", RANGE);
    for seq in 1..=flushes {
        let ViewRecord { name, bytes, entries, tail_bytes, first_key, last_key, .. } =
            record(format!("run-{seq}"), groups);
        let meta = TableMeta { name, bytes, entries, tail_bytes, first_key, last_key };
        let flushed = View::whole(TableHandle::recorded(meta), 0, seq);
        version = version.with_flush(&[flushed]).unwrap();
    }
    version
}

struct Ordered {
    version: Version,
    compaction: Compaction,
    order: CompactionOrder,
    obsolete: Arc<Obsolete>,
}

impl Ordered {
    fn new(generation: u64, groups: (u16, u16)) -> Self {
        let version = version(5, groups);
        let compaction = choose(&version, 1_000).expect("five runs are too many");
        // Outside of a simulation random numbers are real ones.
        let namer = ObjectNamer::new(Generation(generation), "w");
        let order = CompactionOrder::new(&compaction, &version, &namer, CUT).expect("it is small");
        Self { version, compaction, order, obsolete: Arc::default() }
    }

    /// A result with files of these groups.
    fn result(&self, files: &[(u16, u16)]) -> CompactionResult {
        let CompactionOrder { generation, stem, attempt, .. } = self.order.clone();
        let name = |part| self.order.names().part(part).unwrap();
        let files = (0..).zip(files).map(|(part, groups)| record(name(part), *groups)).collect();
        CompactionResult { generation, stem, attempt, files }
    }

    fn accept(&self, result: &CompactionResult) -> Result<Vec<View>, BadOrder> {
        self.order.accept(&self.compaction, &self.version, result, &self.obsolete)
    }

    fn reported(&self) -> usize {
        self.obsolete.report(CheckpointId(1)).len()
    }
}

proptest! {
    #[test]
    fn a_result_is_installed_once_and_only_while_its_inputs_live(
        (first, last) in (0_u16..50, 50_u16..100),
        gone in 0_usize..5,
        generation in 1_u64..9,
    ) {
        let ordered = Ordered::new(generation, (first, last));
        let views = ordered.accept(&ordered.result(&[(first, 49), (50, last)])).unwrap();
        let inputs = &ordered.compaction.inputs;
        let installed = ordered.version.with_replaced(inputs, &views).unwrap().unwrap();
        prop_assert_eq!(installed.file_count(), 2);
        // Twice: its inputs are not there any more.
        prop_assert!(installed.with_replaced(inputs, &views).unwrap().is_none());
        // One of them was replaced by something else.
        let dead = ordered.version.with_replaced(&inputs[gone..=gone], &[]).unwrap().unwrap();
        prop_assert!(dead.with_replaced(inputs, &views).unwrap().is_none());
        prop_assert_eq!(ordered.reported(), 0, "they are held");
        drop((installed, views));
        prop_assert_eq!(ordered.reported(), 2, "what was not installed is nobody's");
    }

    #[test]
    fn a_result_of_another_order_is_refused(
        generation in 1_u64..9,
        earlier in 1_u64..3,
        attempt in 1_u32..3,
    ) {
        let ordered = Ordered::new(generation, (0, 99));
        let right = ordered.result(&[(0, 99)]);
        prop_assert!(ordered.accept(&right).is_ok());
        let older = Ordered::new(generation.saturating_sub(earlier), (0, 99)).result(&[(0, 99)]);
        let sibling = Ordered::new(generation, (0, 99)).result(&[(0, 99)]);
        let given_up = CompactionResult { attempt, ..right.clone() };
        let relabelled = CompactionResult { generation: generation + 1, ..right };
        for other in [older, sibling, given_up, relabelled] {
            let refused = ordered.accept(&other);
            prop_assert!(matches!(refused, Err(BadOrder::Other { .. })), "{:?}", refused);
        }
    }

    #[test]
    fn an_order_survives_its_way(generation in 1_u64..9, attempt in 0_u32..3) {
        use prost::Message as _;
        let ordered = Ordered::new(generation, (0, 99));
        let order = CompactionOrder { attempt, ..ordered.order };
        let read = CompactionOrder::decode(&order.encode_to_vec()[..]).unwrap();
        prop_assert_eq!(&read, &order);
        prop_assert_eq!(read.bytes(), 2_500);
    }
}

#[test]
fn files_that_were_not_ordered_are_refused() {
    let ordered = Ordered::new(3, (10, 90));
    let right = ordered.result(&[(10, 40), (41, 90)]);
    assert!(ordered.accept(&right).is_ok());
    let with = |change: &dyn Fn(&mut CompactionResult)| {
        let mut result = right.clone();
        change(&mut result);
        ordered.accept(&result)
    };
    let files = [
        with(&|result| result.files[0].name = "run-1".to_owned()),
        with(&|result| result.files.swap(0, 1)),
        with(&|result| result.files[0].first_key = key(9)),
        with(&|result| result.files[1].last_key = key(91)),
        with(&|result| result.files[1].entries = 0),
        with(&|result| result.files[1].tail_bytes = 501),
    ];
    for refused in files {
        assert!(matches!(refused, Err(BadOrder::File { .. })), "{refused:?}");
    }
    let together = [
        with(&|result| result.files[0].last_key = key(60)),
        with(&|result| result.files[1].entries = 1_000),
    ];
    for refused in together {
        assert!(matches!(refused, Err(BadOrder::Together(_))), "{refused:?}");
    }
}

#[test]
fn what_is_too_large_is_nobody_elses() {
    let version = version(5, (0, 99));
    let compaction = choose(&version, 1_000).unwrap();
    let namer = ObjectNamer::new(Generation(1), "w");
    let order = |cut| CompactionOrder::new(&compaction, &version, &namer, cut);
    assert!(order(CUT).is_some());
    assert_eq!(order(FileCut { table_bytes: 66, ..CUT }), None, "too many files");
    assert_eq!(order(FileCut { table_bytes: 1 << 30, ..CUT }), None, "files too large");
    let mut large = compaction.clone();
    large.inputs[0].bytes = TASK_BYTES_MAX;
    assert_eq!(CompactionOrder::new(&large, &version, &namer, CUT), None);
}

/// As it was first spoken: fields may be added, none may change.
#[test]
fn an_order_of_the_first_version_is_read() {
    use prost::Message as _;
    let view = ViewRecord { name: "a".to_owned(), ..ViewRecord::default() };
    let inputs = VersionRecord { step: "s".to_owned(), views: vec![view], ..Default::default() };
    let order = CompactionOrder {
        generation: 3,
        stem: "g3-w-1".to_owned(),
        attempt: 1,
        parts_max: 4,
        inputs: Some(inputs),
        level: 1,
        seq: 2,
        is_bottom: true,
        block_bytes: 64,
        table_bytes: 100,
    };
    let spoken = b"\x08\x03\x12\x06g3-w-1\x18\x01\x20\x04\x2a\x08\x0a\x01s\x22\x03\x0a\x01a\x30\x01\x38\x02\x40\x01\x48\x40\x50\x64";
    assert_eq!(CompactionOrder::decode(&spoken[..]), Ok(order));
}
