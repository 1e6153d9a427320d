//! Where a row was read: 64 bits that travel beside each row up to the first aggregate.
//!
//! Origins only name rows in messages; nothing is decided from them. So what does not fit (an
//! object beyond the 65,535th of a source, a position beyond 1 TiB) is cut, and its name says so.

use std::fmt::Write;

const OBJECT_SHIFT: u32 = 40;
const SOURCE_SHIFT: u32 = 56;
const OBJECT_MAX: u64 = (1 << (SOURCE_SHIFT - OBJECT_SHIFT)) - 1;
const POSITION_MAX: u64 = (1 << OBJECT_SHIFT) - 1;
const EVENT_MAX: u64 = (1 << SOURCE_SHIFT) - 1;

/// Where a row was read: source (8 bits), object (16), position (40: row in a parquet file, byte
/// in an ndjson file); of a generated source, source (8) and event number (56).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin(pub u64);

impl Origin {
    /// A row of an object. `source` and `object` are places in [`OriginNames`].
    pub fn of_object(source: u8, object: u64, position: u64) -> Self {
        let object = object.min(OBJECT_MAX) << OBJECT_SHIFT;
        Self(u64::from(source) << SOURCE_SHIFT | object | position.min(POSITION_MAX))
    }

    /// An event of a generated source.
    pub fn of_event(source: u8, number: u64) -> Self {
        Self(u64::from(source) << SOURCE_SHIFT | number.min(EVENT_MAX))
    }

    /// The source's place among the job's sources.
    pub fn source(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    /// The object's place in the source's list.
    pub fn object(self) -> u64 {
        (self.0 >> OBJECT_SHIFT) & OBJECT_MAX
    }

    /// Row or byte within the object.
    pub fn position(self) -> u64 {
        self.0 & POSITION_MAX
    }

    /// Number of a generated event.
    pub fn event(self) -> u64 {
        self.0 & EVENT_MAX
    }
}

/// What the position of an origin counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionKind {
    /// Rows of a parquet file, from 0.
    Row,
    /// Bytes of an ndjson file.
    Byte,
    /// Generated events; there are no objects.
    Event,
}

/// A source in [`OriginNames`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginSource {
    /// The source step's id.
    pub step: String,
    /// What positions count.
    pub kind: PositionKind,
    /// Names of its objects; an origin's object is an index into them.
    pub objects: Vec<String>,
}

/// The sources of a job: turns an [`Origin`] into words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginNames {
    /// An origin's source is an index into them.
    pub sources: Vec<OriginSource>,
}

impl OriginNames {
    /// "source flights, data/flights.parquet, row 17", for messages.
    pub fn describe(&self, origin: Origin) -> String {
        let Some(source) = self.sources.get(usize::from(origin.source())) else {
            return format!("source number {}", origin.source());
        };
        let mut text = format!("source {}", source.step);
        // Writing to a string never fails.
        let _ = match source.kind {
            PositionKind::Event => write!(text, ", event {}", origin.event()),
            PositionKind::Row => write!(text, "{}, row {}", object(source, origin), place(origin)),
            PositionKind::Byte => {
                write!(text, "{}, byte {}", object(source, origin), place(origin))
            }
        };
        text
    }
}

fn object(source: &OriginSource, origin: Origin) -> String {
    if origin.object() == OBJECT_MAX && source.objects.len() > OBJECT_MAX as usize + 1 {
        return format!(", object {OBJECT_MAX} or a later one");
    }
    let name = usize::try_from(origin.object()).ok().and_then(|object| source.objects.get(object));
    name.map_or_else(|| format!(", object {}", origin.object()), |name| format!(", {name}"))
}

fn place(origin: Origin) -> String {
    match origin.position() {
        POSITION_MAX => format!("{POSITION_MAX} or later"),
        position => position.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> OriginNames {
        let source = |step: &str, kind, objects: &[&str]| OriginSource {
            step: step.to_owned(),
            kind,
            objects: objects.iter().map(ToString::to_string).collect(),
        };
        OriginNames {
            sources: vec![
                source("flights", PositionKind::Row, &["a.parquet", "b.parquet"]),
                source("lines", PositionKind::Byte, &["a.ndjson"]),
                source("made", PositionKind::Event, &[]),
            ],
        }
    }

    #[test]
    fn origins_are_named_by_what_their_source_counts() {
        let names = names();
        let say = |origin| names.describe(origin);
        assert_eq!(say(Origin::of_object(0, 1, 17)), "source flights, b.parquet, row 17");
        assert_eq!(say(Origin::of_object(1, 0, 4096)), "source lines, a.ndjson, byte 4096");
        assert_eq!(say(Origin::of_event(2, 1 << 50)), "source made, event 1125899906842624");
        assert_eq!(say(Origin::of_object(0, 7, 1)), "source flights, object 7, row 1");
        assert_eq!(say(Origin::of_object(9, 0, 0)), "source number 9");
    }

    #[test]
    fn parts_come_back_from_the_64_bits() {
        let origin = Origin::of_object(255, 65_534, (1 << 40) - 2);
        let parts = (origin.source(), origin.object(), origin.position());
        assert_eq!(parts, (255, 65_534, (1 << 40) - 2));
        assert_eq!(Origin::of_object(1, 2, 3).0, 0x0100_0200_0000_0003);
    }

    #[test]
    fn what_does_not_fit_is_cut_and_says_so() {
        let mut names = names();
        names.sources[0].objects = vec!["x".to_owned(); 70_000];
        let text = names.describe(Origin::of_object(0, 69_000, 1 << 41));
        assert_eq!(text, "source flights, object 65535 or a later one, row 1099511627775 or later");
    }
}
