//! Generated rows are a function of the event number: the same from any split and position, and
//! the same for ever. The first rows were derived by another program in another language.

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use object_store::memory::InMemory;

use super::*;
use crate::objects::OneStore;
use crate::pipeline::spec::SourceSpec;
use crate::rows::Rows;
use crate::source::generated::{BLOCK_EVENTS, Blocks, FIRST_TIME_MS};
use crate::source::{Source, plan};

fn spec(count: Option<u64>, skew_milli: u32) -> SourceSpec {
    SourceSpec {
        kind: SourceKind::Keys { count, distinct: 1000, value_bytes: 11, skew_milli },
        rate: None,
        event_time: None,
    }
}

async fn source(spec: &SourceSpec) -> Source {
    let objects = OneStore(Arc::new(InMemory::new()));
    let plan = plan("gen", spec, &objects).await.unwrap();
    assert!(plan.splits.is_empty());
    Source::new(spec, &plan, 2, &objects).unwrap()
}

async fn read(source: &Source, split: u64, position: u64, rows_max: usize) -> Vec<Rows> {
    let mut reader = source.open_split(split, position).await.unwrap();
    let mut all = Vec::new();
    while let Some(rows) = reader.next(rows_max).await.unwrap() {
        assert!(rows.batch.num_rows() <= rows_max);
        all.push(rows);
    }
    all
}

#[tokio::test]
async fn the_first_rows_are_what_they_always_were() {
    for (skew, keys) in [(0, FIRST_KEYS), (990, FIRST_SKEWED_KEYS)] {
        let source = source(&spec(Some(4), skew)).await;
        let rows = &read(&source, 0, 0, 100).await[0];
        let key: Vec<_> = rows.batch["key"].as_string::<i32>().iter().flatten().collect();
        assert_eq!(key, keys);
        let value = rows.batch["value"].as_binary::<i32>().value(1);
        assert_eq!(value, [0x54, 0x76, 0x88, 0xc1, 0x49, 0x04, 0x07, 0xce, 0x5f, 0x9b, 0x93]);
        let seq = rows.batch["seq"].as_primitive::<Int64Type>();
        assert_eq!(seq.values(), &[0, 1, 2, 3]);
        let time = rows.batch["time"].as_primitive::<TimestampMillisecondType>();
        assert_eq!(time.value(3), 1_436_918_400_003);
        assert_eq!(rows.times.as_ref().unwrap().values(), time.values());
        assert_eq!(rows.origins.as_ref().unwrap().value(3), (2 << 56) | 3);
    }
}

const FIRST_KEYS: [&str; 4] = ["k00000883", "k00000431", "k00000026", "k00000970"];
const FIRST_SKEWED_KEYS: [&str; 4] = ["k00000020", "k00000045", "k00000009", "k00000576"];

#[tokio::test]
async fn rows_do_not_depend_on_batches_and_positions() {
    let events = BLOCK_EVENTS + 100;
    let source = source(&spec(Some(events), 500)).await;
    assert_eq!(source.splits().count(), Some(2));
    let whole = read(&source, 1, 0, 10_000).await;
    assert_eq!(whole[0].batch.num_rows(), 100);
    for position in [1, 37, 99] {
        let rest: Vec<_> =
            read(&source, 1, position, 7).await.iter().map(|r| r.batch.clone()).collect();
        let rest = concat_batches(&source.schema(), &rest).unwrap();
        let position = usize::try_from(position).unwrap();
        assert_eq!(rest, whole[0].batch.slice(position, 100 - position));
    }
    assert!(read(&source, 1, 100, 7).await.is_empty());
    assert!(read(&source, 2, 0, 7).await.is_empty());
}

#[tokio::test]
async fn only_the_wanted_columns_are_made() {
    let source = source(&spec(None, 0)).await.with_columns(&["seq".to_owned()]);
    let rows = &read(&source, 9, 0, 10_000).await[0];
    assert_eq!(rows.batch.num_columns(), 1);
    assert_eq!(rows.batch.schema(), source.schema());
    assert_eq!(rows.times.as_ref().unwrap().len(), 1024);
    assert_eq!(source.splits().count(), None);
    assert_eq!(source.place(crate::rows::Origin((2 << 56) | 77)), "generate.keys, event 77");
}

#[test]
fn the_time_of_a_block_is_that_of_its_last_row() {
    let blocks = Blocks::every(Some(BLOCK_EVENTS + 5), 1);
    assert_eq!(blocks.max_time_ms(0), Some(FIRST_TIME_MS + 1023));
    assert_eq!(blocks.max_time_ms(1), Some(FIRST_TIME_MS + 1024 + 4));
    assert_eq!(Blocks::every(Some(0), 1).count(), Some(0));
}
