//! `generate.sequence`, and the shares of streams.

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use object_store::memory::InMemory;

use super::*;
use crate::objects::OneStore;
use crate::pipeline::spec::SourceSpec;
use crate::source::pacing::Pacing;
use crate::source::{Source, plan};

#[tokio::test]
async fn a_sequence_counts_from_0_and_its_time_goes_in_steps() {
    let kind = SourceKind::Sequence { count: Some(1_030), every_ms: 250 };
    let spec = SourceSpec { kind, rate: None, event_time: None };
    let objects = OneStore(Arc::new(InMemory::new()));
    let plan = plan("s", &spec, &objects).await.unwrap();
    let source = Source::new(&spec, &plan, 0, &objects).unwrap();
    assert_eq!(source.splits().count(), Some(2));
    let mut reader = source.open_split(1, 2).await.unwrap();
    let rows = reader.next(100).await.unwrap().unwrap();
    assert_eq!(rows.batch["seq"].as_primitive::<Int64Type>().values(), &[1026, 1027, 1028, 1029]);
    let times = rows.batch["time"].as_primitive::<TimestampMillisecondType>();
    assert_eq!(times.value(3), FIRST_TIME_MS + 1029 * 250);
    assert_eq!(rows.times.unwrap().value(3), times.value(3));
    assert!(reader.next(100).await.unwrap().is_none());
    let source = source.with_columns(&[]);
    let rows = source.open_split(0, 0).await.unwrap().next(5).await.unwrap().unwrap();
    assert_eq!((rows.batch.num_columns(), rows.batch.num_rows()), (0, 5));
}

#[test]
fn streams_of_one_source_keep_pace_with_each_other() {
    use std::time::Duration;

    use crate::source::dealing::Splits;

    for (stream, rows_a_second) in
        [(NexmarkStream::Bid, 920), (NexmarkStream::Auction, 60), (NexmarkStream::Person, 20)]
    {
        let kind = SourceKind::Nexmark { stream, events: None, events_per_second: 10 };
        let splits = Splits::generated(Blocks::of(&kind).unwrap());
        let mut pacing = Pacing::new(1_000, 1, &splits);
        let (mut now, mut rows) = (Duration::ZERO, 0);
        while now < Duration::from_secs(10) {
            let batch = pacing.batch_rows(8192);
            pacing.took(batch, now);
            rows += batch;
            now += pacing.wait(now);
        }
        assert!(rows.abs_diff(rows_a_second * 10) <= 200, "{stream:?}: {rows}");
    }
}
