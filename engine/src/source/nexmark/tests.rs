//! The rows are those of the crate, in every column, and what they always were.

use ::nexmark::EventGenerator;
use ::nexmark::config::NexmarkConfig;
use ::nexmark::event::Event;
use object_store::memory::InMemory;
use std::sync::Arc;

use super::*;
use crate::objects::OneStore;
use crate::pipeline::spec::{SourceKind, SourceSpec};
use crate::rows::{Origin, Rows};
use crate::sink::encode::Encoder;
use crate::source::{Source, plan};

const ALL: [NexmarkStream; 3] = [NexmarkStream::Person, NexmarkStream::Auction, NexmarkStream::Bid];

async fn source(stream: NexmarkStream, events: Option<u64>, events_per_second: u64) -> Source {
    let kind = SourceKind::Nexmark { stream, events, events_per_second };
    let spec = SourceSpec { kind, rate: None, event_time: None };
    let objects = OneStore(Arc::new(InMemory::new()));
    let plan = plan("nexmark.bid", &spec, &objects).await.unwrap();
    Source::new(&spec, &plan, 2, &objects).unwrap()
}

async fn read(source: &Source, split: u64, position: u64, rows_max: usize) -> Vec<Rows> {
    let mut reader = source.open_split(split, position).await.unwrap();
    let mut all = Vec::new();
    while let Some(rows) = reader.next(rows_max).await.unwrap() {
        all.push(rows);
    }
    all
}

/// A row as (values, times as numbers), so that both sides can be compared.
fn ours(nexmark: &Nexmark, event: u64) -> Vec<String> {
    let mut row = Row::default();
    nexmark.fill(event, &mut row);
    let value = |cell: &Cell| match cell {
        Cell::Int(value) | Cell::Time(value) => value.to_string(),
        Cell::Text(at) => row.text[at.clone()].to_owned(),
    };
    row.cells.iter().map(value).collect()
}

fn theirs(event: Event) -> (NexmarkStream, Vec<String>) {
    match event {
        Event::Person(p) => (
            NexmarkStream::Person,
            vec![
                p.id.to_string(),
                p.name,
                p.email_address,
                p.credit_card,
                p.city,
                p.state,
                p.date_time.to_string(),
                p.extra,
            ],
        ),
        Event::Auction(a) => (
            NexmarkStream::Auction,
            vec![
                a.id.to_string(),
                a.item_name,
                a.description,
                a.initial_bid.to_string(),
                a.reserve.to_string(),
                a.date_time.to_string(),
                a.expires.to_string(),
                a.seller.to_string(),
                a.category.to_string(),
                a.extra,
            ],
        ),
        Event::Bid(b) => (
            NexmarkStream::Bid,
            vec![
                b.auction.to_string(),
                b.bidder.to_string(),
                b.price.to_string(),
                b.channel,
                b.url,
                b.date_time.to_string(),
                b.extra,
            ],
        ),
    }
}

fn compare(events_per_second: u64, events: std::ops::Range<u64>) {
    let rate = usize::try_from(events_per_second).unwrap();
    let config = NexmarkConfig {
        base_time: 1_436_918_400_000,
        first_rate: rate,
        next_rate: rate,
        ..NexmarkConfig::default()
    };
    let generator = EventGenerator::new(config).with_offset(events.start);
    for (number, event) in events.zip(generator) {
        let (stream, expected) = theirs(event);
        let nexmark = Nexmark { stream, events_per_second, with_extra: true };
        assert_eq!(ours(&nexmark, number), expected, "event {number}");
        assert_eq!(expected.len(), schema(stream).fields().len());
        let (first, rows) = place(stream);
        assert!((first..first + rows).contains(&(number % EPOCH_EVENTS)));
    }
}

#[test]
fn a_hundred_thousand_events_are_those_of_the_crate_in_all_columns() {
    compare(10_000, 0..100_000);
}

#[test]
fn other_rates_and_later_events_are_those_of_the_crate_too() {
    for rate in [1, 7, 1_000, 3_000_000] {
        compare(rate, 0..2_000);
        compare(rate, 20_000_000..20_001_000);
    }
    compare(10_000, 3_000_000_000..3_000_002_000);
}

#[tokio::test]
async fn the_first_rows_are_what_they_always_were() {
    let mut lines = Vec::new();
    for stream in ALL {
        let source = source(stream, Some(100), 10_000).await;
        let encoder = Encoder::new(&source.schema(), false).unwrap();
        for rows in read(&source, 0, 0, 1000).await {
            let encoded = encoder.rows(&rows);
            (0..rows.batch.num_rows()).for_each(|row| encoded.line(row, &mut lines));
        }
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/nexmark_first_100_events.ndjson");
    let expected = std::fs::read_to_string(file).unwrap();
    assert_eq!(String::from_utf8(lines).unwrap(), expected);
}

#[tokio::test]
async fn streams_are_cut_by_event_number_and_read_on_from_any_row() {
    for (stream, rows) in ALL.into_iter().zip([21, 63, 1000 - 20 - 60 + 46]) {
        // The second block has events 1,000 to 1,050: one of each epoch's kinds, and a person more.
        let source = source(stream, Some(1_051), 10_000).await;
        assert_eq!(source.splits().count(), Some(2));
        let (one, two) = (read(&source, 0, 0, 100_000).await, read(&source, 1, 0, 7).await);
        let more = u64::from(stream == NexmarkStream::Person);
        let all: usize = one.iter().chain(&two).map(|rows| rows.batch.num_rows()).sum();
        assert_eq!(all as u64, rows + more);
        let origins: Vec<u64> =
            two.iter().flat_map(|rows| rows.origins.as_ref().unwrap().values().to_vec()).collect();
        assert_eq!(origins[0], (2 << 56) | (1_000 + place(stream).0));
        let last = two.last().unwrap().times.as_ref().unwrap();
        let blocks = crate::source::generated::Blocks::of(&SourceKind::Nexmark {
            stream,
            events: Some(1_051),
            events_per_second: 10_000,
        });
        assert_eq!(blocks.unwrap().max_time_ms(1), Some(last.value(last.len() - 1)));
        let whole = read(&source, 1, 0, 1000).await[0].batch.clone();
        for position in 0..whole.num_rows().min(4) {
            let rest = read(&source, 1, position as u64, 1000).await;
            assert_eq!(rest[0].batch, whole.slice(position, whole.num_rows() - position));
        }
    }
}

#[tokio::test]
async fn a_block_without_a_row_of_the_stream_is_empty_and_has_no_time() {
    let bids = source(NexmarkStream::Bid, Some(1_003), 10_000).await;
    assert_eq!(bids.splits().count(), Some(2));
    assert!(read(&bids, 1, 0, 10).await.is_empty());
}

#[tokio::test]
async fn only_the_wanted_columns_are_made() {
    let whole = source(NexmarkStream::Bid, None, 10_000).await;
    let some = whole.clone().with_columns(&["url".to_owned(), "auction".to_owned()]);
    let (all, rows) = (read(&whole, 7, 0, 99).await, read(&some, 7, 0, 99).await);
    assert_eq!(rows[0].batch, all[0].batch.project(&[0, 4]).unwrap());
    assert_eq!(rows[0].times, all[0].times);
    assert_eq!(whole.place(Origin((2 << 56) | 1_004)), "generate.nexmark, event 1004");
}
