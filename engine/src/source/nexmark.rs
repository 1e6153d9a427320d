//! `generate.nexmark`: the events of an auction house, as crate `nexmark` 0.2.0 makes them.
//!
//! Event `n` (from 0) is a function of `n` alone. Of each 50 events in a row the first is a person,
//! the next three are auctions and the rest bids; each kind is a stream with columns of its own.
//! Rows and their times are those of the crate's defaults with `base_time` 1436918400000 and
//! `first_rate` = `next_rate` = `eventsPerSecond`; a test compares all columns. The crate itself is
//! not used: it makes every column of every event, and its random numbers are another crate's that
//! is free to change them.
//!
//! Times and prices come from `f32`, as there: times grow coarse beyond 2^24 events.

use std::fmt::Write as _;
use std::sync::OnceLock;

use arrow::datatypes::{DataType, Field, Schema};
use random::Random;

use crate::pipeline::spec::NexmarkStream;
use crate::source::generated::{Cell, FIRST_TIME_MS, Row};

mod random;

/// Events that hold one person, three auctions and 46 bids.
pub(crate) const EPOCH_EVENTS: u64 = 50;
const PERSONS: u64 = 1;
const AUCTIONS: u64 = 3;

const ACTIVE_PEOPLE: u64 = 1_000;
const IN_FLIGHT_AUCTIONS: u64 = 100;
/// Ids begin here, so that none is 0.
const FIRST_ID: u64 = 1_000;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;
/// How far ahead of the last one ids are drawn.
const ID_LEAD: u64 = 10;
/// One in so many is not "hot".
const HOT_AUCTION: u64 = 2;
const HOT_BIDDER: u64 = 4;
const HOT_SELLER: u64 = 4;
const HOT_CHANNEL: u64 = 2;
/// The hot one is the first of so many.
const HOT_GROUP: u64 = 100;
const PERSON_BYTES: u64 = 200;
const AUCTION_BYTES: u64 = 500;
const BID_BYTES: u64 = 100;
const CHANNELS: u32 = 10_000;

const STATES: [&str; 6] = ["az", "ca", "id", "or", "wa", "wy"];
const CITIES: [&str; 10] = [
    "phoenix",
    "los angeles",
    "san francisco",
    "boise",
    "portland",
    "bend",
    "redmond",
    "seattle",
    "kent",
    "cheyenne",
];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const FIRST_NAMES: [&str; 11] = [
    "peter", "paul", "luke", "john", "saul", "vicky", "kate", "julie", "sarah", "deiter", "walter",
];
const LAST_NAMES: [&str; 9] =
    ["shultz", "abrams", "spencer", "white", "bartels", "walton", "smith", "jones", "noris"];

/// The columns of a stream, in order; `extra` is the last.
pub(crate) fn schema(stream: NexmarkStream) -> Schema {
    let (int, text, time) = (DataType::Int64, DataType::Utf8, weir_expr::types::timestamp());
    let columns: &[(&str, &DataType)] = match stream {
        NexmarkStream::Bid => &[
            ("auction", &int),
            ("bidder", &int),
            ("price", &int),
            ("channel", &text),
            ("url", &text),
            ("date_time", &time),
            ("extra", &text),
        ],
        NexmarkStream::Auction => &[
            ("id", &int),
            ("item_name", &text),
            ("description", &text),
            ("initial_bid", &int),
            ("reserve", &int),
            ("date_time", &time),
            ("expires", &time),
            ("seller", &int),
            ("category", &int),
            ("extra", &text),
        ],
        NexmarkStream::Person => &[
            ("id", &int),
            ("name", &text),
            ("email_address", &text),
            ("credit_card", &text),
            ("city", &text),
            ("state", &text),
            ("date_time", &time),
            ("extra", &text),
        ],
    };
    let field = |(name, kind): &(&str, &DataType)| Field::new(*name, (*kind).clone(), true);
    Schema::new(columns.iter().map(field).collect::<Vec<_>>())
}

/// Where a stream's events stand among the 50: the first, and how many.
pub(crate) const fn place(stream: NexmarkStream) -> (u64, u64) {
    match stream {
        NexmarkStream::Person => (0, PERSONS),
        NexmarkStream::Auction => (PERSONS, AUCTIONS),
        NexmarkStream::Bid => (PERSONS + AUCTIONS, EPOCH_EVENTS - PERSONS - AUCTIONS),
    }
}

/// Event time of an event.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the crate's arithmetic, which is part of the public form"
)]
pub(crate) fn time_ms(event: u64, events_per_second: u64) -> i64 {
    let micros_per_event = 1_000_000_f32 / events_per_second as f32;
    let offset = ((event as f32 * micros_per_event) / 1000.0).round() as u64;
    FIRST_TIME_MS.saturating_add_unsigned(offset)
}

/// The events of one stream.
#[derive(Clone, Debug)]
pub(crate) struct Nexmark {
    pub(crate) stream: NexmarkStream,
    pub(crate) events_per_second: u64,
    /// Whether the column `extra` is wanted, which costs more than all others.
    pub(crate) with_extra: bool,
}

impl Nexmark {
    /// Fills in the row of an event, which is one of the stream's.
    pub(crate) fn fill(&self, event: u64, row: &mut Row) {
        let mut random = Random::seeded(event);
        let time = time_ms(event, self.events_per_second);
        let bytes_left = match self.stream {
            NexmarkStream::Bid => bid(event, time, &mut random, row),
            NexmarkStream::Auction => {
                let events_ahead = IN_FLIGHT_AUCTIONS * EPOCH_EVENTS / AUCTIONS;
                let ahead = time_ms(event + events_ahead, self.events_per_second);
                auction(event, time, ahead, &mut random, row)
            }
            NexmarkStream::Person => person(event, time, &mut random, row),
        };
        row.text(|text| {
            if self.with_extra {
                extra(bytes_left, &mut random, text);
            }
        });
    }
}

/// Gives the bytes that `extra` has on average.
fn bid(event: u64, time: i64, random: &mut Random, row: &mut Row) -> Option<u64> {
    let auction = if random.below(HOT_AUCTION) > 0 {
        last_auction(event) / HOT_GROUP * HOT_GROUP
    } else {
        next_auction(event, random)
    };
    let bidder = if random.below(HOT_BIDDER) > 0 {
        last_person(event) / HOT_GROUP * HOT_GROUP + 1
    } else {
        next_person(event, random)
    };
    row.int(auction + FIRST_ID);
    row.int(bidder + FIRST_ID);
    row.int(random.price());
    let channels = channels();
    let (name, url) = if random.below(HOT_CHANNEL) > 0 {
        let hot = random.below(HOT_CHANNELS.len() as u64) as usize;
        (HOT_CHANNELS[hot], &channels.hot_urls[hot])
    } else {
        let (name, url) = random.choose(&channels.all);
        (name.as_str(), url)
    };
    row.text(|text| text.push_str(name));
    row.text(|text| text.push_str(url));
    row.cells.push(Cell::Time(time));
    BID_BYTES.checked_sub(8 + 8 + 8 + 8)
}

fn auction(event: u64, time: i64, ahead: i64, random: &mut Random, row: &mut Row) -> Option<u64> {
    const NAME: u64 = 20;
    const DESCRIPTION: u64 = 100;
    row.int(last_auction(event) + FIRST_ID);
    row.text(|text| random.letters(NAME, text));
    row.text(|text| random.letters(DESCRIPTION, text));
    let initial = random.price();
    row.int(initial);
    row.int(initial + random.price());
    row.cells.push(Cell::Time(time));
    let horizon = u64::try_from(ahead - time).unwrap_or(0);
    let length = 1 + random.below((horizon * 2).max(1));
    row.cells.push(Cell::Time(time.saturating_add_unsigned(length)));
    let seller = if random.below(HOT_SELLER) > 0 {
        last_person(event) / HOT_GROUP * HOT_GROUP
    } else {
        next_person(event, random)
    };
    row.int(seller + FIRST_ID);
    row.int(FIRST_CATEGORY + random.below(CATEGORIES));
    AUCTION_BYTES.checked_sub(8 + NAME + DESCRIPTION + 8 * 5)
}

fn person(event: u64, time: i64, random: &mut Random, row: &mut Row) -> Option<u64> {
    row.int(last_person(event) + FIRST_ID);
    let begin = row.text.len();
    row.text(|text| {
        let first = random.choose::<&str>(&FIRST_NAMES);
        let last = random.choose::<&str>(&LAST_NAMES);
        write!(text, "{first} {last}").expect("a string takes any text");
    });
    row.text(|text| {
        random.letters(7, text);
        text.push('@');
        random.letters(5, text);
        text.push_str(".com");
    });
    row.text(|text| {
        for part in 0..4 {
            let blank = if part == 0 { "" } else { " " };
            let digits = random.below_u32(10_000);
            write!(text, "{blank}{digits:04}").expect("a string takes any text");
        }
    });
    row.text(|text| text.push_str(random.choose::<&str>(&CITIES)));
    row.text(|text| text.push_str(random.choose::<&str>(&STATES)));
    row.cells.push(Cell::Time(time));
    PERSON_BYTES.checked_sub(8 + (row.text.len() - begin) as u64)
}

/// Letters, `bytes` on average, a fifth more or less.
fn extra(bytes: Option<u64>, random: &mut Random, text: &mut String) {
    let Some(bytes) = bytes else { return };
    let delta = (bytes + 2) / 5;
    let more = if delta == 0 { 0 } else { random.below(2 * delta) };
    random.letters(bytes - delta + more, text);
}

/// Number of the last person at an event, from 0.
fn last_person(event: u64) -> u64 {
    event / EPOCH_EVENTS
}

fn next_person(event: u64, random: &mut Random) -> u64 {
    let people = last_person(event) + 1;
    let active = people.min(ACTIVE_PEOPLE);
    people - active + random.below(active + ID_LEAD)
}

/// Number of the last auction at an event that is no person, from 0.
fn last_auction(event: u64) -> u64 {
    let place = event % EPOCH_EVENTS - PERSONS;
    event / EPOCH_EVENTS * AUCTIONS + place.min(AUCTIONS - 1)
}

fn next_auction(event: u64, random: &mut Random) -> u64 {
    let last = last_auction(event);
    let first = last.saturating_sub(IN_FLIGHT_AUCTIONS);
    first + random.below(last - first + 1 + ID_LEAD)
}

struct Channels {
    hot_urls: Vec<String>,
    all: Vec<(String, String)>,
}

/// Names and URLs of channels, which are the same for ever.
fn channels() -> &'static Channels {
    static CHANNELS_ONCE: OnceLock<Channels> = OnceLock::new();
    CHANNELS_ONCE.get_or_init(|| Channels {
        hot_urls: (0..HOT_CHANNELS.len() as u64).map(base_url).collect(),
        all: (0..CHANNELS).map(channel).collect(),
    })
}

fn channel(number: u32) -> (String, String) {
    let mut url = base_url(u64::from(number));
    if Random::seeded(u64::from(number)).below_u32(10) > 0 {
        let id = number.reverse_bits().cast_signed().unsigned_abs();
        write!(url, "&channel_id={id}").expect("a string takes any text");
    }
    (format!("channel-{number}"), url)
}

fn base_url(seed: u64) -> String {
    let mut random = Random::seeded(seed);
    let mut url = "https://www.nexmark.com".to_owned();
    for _ in 0..3 {
        url.push('/');
        for _ in 0..3 + random.below(2) {
            let delimiter = random.below_u32(13) == 0;
            url.push(if delimiter { '_' } else { random.letter() });
        }
    }
    url.push_str("/item.htm?query=1");
    url
}

#[cfg(test)]
mod tests;
