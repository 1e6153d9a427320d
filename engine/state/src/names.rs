//! Names of objects that nobody can ever have used before, and what can be read from them.
//!
//! A name carries the generation and the worker incarnation that wrote it, so that a sweep can tell
//! what a dead generation left from what a living one is about to name. Bare object names are below
//! the incarnation's `objects/` folder.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use weir_runtime::random;
use xxhash_rust::xxh3::xxh3_64;

use crate::ids::{CheckpointId, Generation};

/// Makes object names for one worker process within one generation. Clones share the numbering.
#[derive(Clone, Debug)]
pub struct ObjectNamer {
    generation: Generation,
    worker: Arc<str>,
    salt: u32,
    next: Arc<AtomicU64>,
}

impl ObjectNamer {
    /// A namer for the worker incarnation `worker` (letters, digits, `_`, `-`).
    ///
    /// Two namers of the same worker and generation give different names too: each draws a number
    /// of its own.
    pub fn new(generation: Generation, worker: &str) -> Self {
        // The upper half of a random number: 32 bits.
        let salt = u32::try_from(random::u64() >> 32).unwrap_or_default();
        Self { generation, worker: worker.into(), salt, next: Arc::new(AtomicU64::new(0)) }
    }

    /// The generation that the names carry.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// A fresh name, `<hh>-g<generation>-<worker>-<attempt>.<suffix>`; `hh` spreads names over
    /// prefixes, since stores limit requests per prefix.
    pub fn name(&self, suffix: &str) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let attempt = format!("{:08x}{number:x}", self.salt);
        let rest = format!("g{}-{}-{attempt}.{suffix}", self.generation, self.worker);
        format!("{:02x}-{rest}", xxh3_64(rest.as_bytes()) & 0xff)
    }
}

impl ObjectNamer {
    /// Names for attempts to carry out one order in another process.
    pub(crate) fn order(&self, parts_max: u32) -> OrderNames {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let stem = format!("g{}-{}-{:08x}{number:x}", self.generation, self.worker, self.salt);
        OrderNames { stem, attempt: 0, parts_max }
    }
}

/// The names that one attempt at an order may use: `<hh>-<stem>x<attempt>p<part>.table`, where the
/// stem says generation, worker that ordered, and order. The one who ordered can list them all, so
/// nothing is lost when whoever carries it out dies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OrderNames {
    pub(crate) stem: String,
    pub(crate) attempt: u32,
    pub(crate) parts_max: u32,
}

impl OrderNames {
    /// How many there are.
    pub(crate) fn parts_max(&self) -> u32 {
        self.parts_max
    }

    /// The name of a part; `None` beyond the last one.
    pub(crate) fn part(&self, part: u32) -> Option<String> {
        let suffix = crate::output::TABLE_SUFFIX;
        let rest = || format!("{self}p{part}.{suffix}");
        let name = |rest: String| format!("{:02x}-{rest}", xxh3_64(rest.as_bytes()) & 0xff);
        (part < self.parts_max).then(|| name(rest()))
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = String> {
        (0..self.parts_max).filter_map(|part| self.part(part))
    }
}

impl fmt::Display for OrderNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.stem, self.attempt)
    }
}

/// What an object's name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// The generation in which it was written.
    pub generation: Generation,
    /// The worker incarnation that wrote it.
    pub worker: String,
    /// Unique within worker and generation.
    pub attempt: String,
    /// What kind of object it is.
    pub suffix: String,
}

impl ObjectName {
    /// Reads a bare name that an [`ObjectNamer`] made; `None` for any other.
    pub fn parse(name: &str) -> Option<Self> {
        let (hash, rest) = name.split_once('-')?;
        let expected = format!("{:02x}", xxh3_64(rest.as_bytes()) & 0xff);
        let (stem, suffix) = rest.rsplit_once('.')?;
        let (generation, stem) = stem.strip_prefix('g')?.split_once('-')?;
        let (worker, attempt) = stem.rsplit_once('-')?;
        let plain = |text: &str| !text.is_empty() && !text.contains(['/', '#']);
        if hash != expected || ![worker, attempt, suffix].into_iter().all(plain) {
            return None;
        }
        Some(Self {
            generation: Generation(number(generation)?),
            worker: worker.to_owned(),
            attempt: attempt.to_owned(),
            suffix: suffix.to_owned(),
        })
    }
}

/// One life of a job under its URI; written `<n>-<id>`, which is also its folder's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// Number of its claim, from 1.
    pub number: u64,
    /// Random id; users call it the run, and sink file names carry it.
    pub id: String,
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.number, self.id)
    }
}

/// A text that is no incarnation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no incarnation: expected <number>-<id>")]
pub struct NotAnIncarnation(pub String);

impl FromStr for Incarnation {
    type Err = NotAnIncarnation;

    fn from_str(text: &str) -> Result<Self, NotAnIncarnation> {
        let read = || {
            let (claim, id) = text.split_once('-')?;
            let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let number = number(claim).filter(|number| *number > 0 && plain)?;
            Some(Self { number, id: id.to_owned() })
        };
        read().ok_or_else(|| NotAnIncarnation(text.to_owned()))
    }
}

/// A committed file of a `files` sink:
/// `<step>-<run>-<checkpoint, 12 digits>-<generation>-<subtask>-<part>.<suffix>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkFile {
    /// Id of the sink's step.
    pub step: String,
    /// Id of the job's incarnation.
    pub run: String,
    /// The checkpoint that commits it.
    pub checkpoint: CheckpointId,
    /// The generation that wrote it.
    pub generation: Generation,
    /// The subtask that wrote it.
    pub subtask: u32,
    /// Number within checkpoint and subtask.
    pub part: u32,
    /// The format's suffix.
    pub suffix: String,
}

impl SinkFile {
    /// Reads the name of a committed file; `None` for any other name.
    pub fn parse(name: &str) -> Option<Self> {
        let (stem, suffix) = name.split_once('.')?;
        let mut parts = stem.split('-');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let file = Self {
            step: next()?.to_owned(),
            run: next()?.to_owned(),
            checkpoint: CheckpointId(next().filter(|id| id.len() >= 12).and_then(number)?),
            generation: Generation(number(next()?)?),
            subtask: u32::try_from(number(next()?)?).ok()?,
            part: u32::try_from(number(next()?)?).ok()?,
            suffix: suffix.to_owned(),
        };
        (parts.next().is_none() && file.to_string() == name).then_some(file)
    }
}

impl fmt::Display for SinkFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, run, checkpoint, generation, subtask, part, suffix } = self;
        let checkpoint = checkpoint.0;
        write!(f, "{step}-{run}-{checkpoint:012}-{generation}-{subtask}-{part}.{suffix}")
    }
}

/// A committed part of a `table` sink's snapshot: `<step>-<run>-<checkpoint, 12 digits>-<part>.<suffix>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFile {
    /// Id of the sink's step.
    pub step: String,
    /// Id of the job's incarnation.
    pub run: String,
    /// The checkpoint whose rows it holds, and that commits it.
    pub checkpoint: CheckpointId,
    /// Which part of the snapshot.
    pub part: u32,
    /// The format's suffix.
    pub suffix: String,
}

impl TableFile {
    /// Reads the name of a committed part; `None` for any other name.
    pub fn parse(name: &str) -> Option<Self> {
        let (stem, suffix) = name.split_once('.')?;
        let mut parts = stem.split('-');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let file = Self {
            step: next()?.to_owned(),
            run: next()?.to_owned(),
            checkpoint: CheckpointId(next().filter(|id| id.len() >= 12).and_then(number)?),
            part: u32::try_from(number(next()?)?).ok()?,
            suffix: suffix.to_owned(),
        };
        (parts.next().is_none() && file.to_string() == name).then_some(file)
    }
}

impl fmt::Display for TableFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, run, checkpoint, part, suffix } = self;
        write!(f, "{step}-{run}-{:012}-{part}.{suffix}", checkpoint.0)
    }
}

/// Step and run of a committed file of any sink; `None` for any other name.
pub fn committed_by(name: &str) -> Option<(String, String)> {
    let file = SinkFile::parse(name).map(|file| (file.step, file.run));
    file.or_else(|| TableFile::parse(name).map(|file| (file.step, file.run)))
}

/// The folder below a sink's for what one generation of one run stages: `_weir/<run>/g<generation>`.
pub fn staging_folder(run: &str, generation: Generation) -> String {
    format!("_weir/{run}/g{generation}")
}

/// The run and generation whose staging folder a path below a sink's folder lies in.
pub fn staged_by(path: &str) -> Option<(&str, Generation)> {
    let (run, rest) = path.strip_prefix("_weir/")?.split_once('/')?;
    let (generation, name) = rest.strip_prefix('g')?.split_once('/')?;
    let generation = Generation(number(generation)?);
    (!run.is_empty() && !name.is_empty()).then_some((run, generation))
}

/// A decimal number without sign or blanks.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_fresh_and_can_be_read_back() {
        let namer = ObjectNamer::new(Generation(7), "w1-abc");
        let twin = ObjectNamer::new(Generation(7), "w1-abc");
        let names = [namer.name("sst"), namer.clone().name("sst"), twin.name("sst")];
        assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2]);
        let read = ObjectName::parse(&names[1]).unwrap();
        assert_eq!(read.generation, Generation(7));
        assert_eq!(read.worker, "w1-abc");
        assert_eq!(read.suffix, "sst");
        assert!(names[1].ends_with(&format!("-{}.sst", read.attempt)));
    }

    #[test]
    fn names_of_an_order_tell_generation_and_worker_and_can_be_listed() {
        let namer = ObjectNamer::new(Generation(7), "w1-abc");
        let (one, other) = (namer.order(3), namer.order(3));
        let mut names: Vec<String> = one.all().collect();
        names.extend(OrderNames { attempt: 1, ..one.clone() }.all().chain(other.all()));
        assert_eq!((names.len(), one.part(3)), (9, None));
        for name in &names {
            let read = ObjectName::parse(name).unwrap();
            assert_eq!((read.generation, read.worker.as_str()), (Generation(7), "w1-abc"));
        }
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 9);
    }

    #[test]
    fn a_foreign_name_is_not_read() {
        let name = ObjectNamer::new(Generation(1), "w").name("sst");
        let other_hash = format!("{}{}", if name.starts_with('0') { '1' } else { '0' }, &name[1..]);
        for foreign in ["", "a", "readme.txt", "00-g1-w-1", &other_hash, &format!("{name}#1")] {
            assert_eq!(ObjectName::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn an_incarnation_is_read_back() {
        let incarnation = Incarnation { number: 3, id: "ab12".into() };
        assert_eq!(incarnation.to_string().parse(), Ok(incarnation));
        for text in ["", "3", "3-", "x-ab", "0-ab", "3-a/b", "-3-ab"] {
            assert!(text.parse::<Incarnation>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_sink_file_is_read_back() {
        let name = "out-ab12-000000000017-2-3-0.ndjson";
        let file = SinkFile::parse(name).unwrap();
        assert_eq!((file.step.as_str(), file.checkpoint.0, file.part), ("out", 17, 0));
        assert_eq!(file.to_string(), name);
        for foreign in [
            "out-ab12-17-2-3-0.ndjson",
            "out-ab12-000000000017-2-3.ndjson",
            "out-ab12-000000000017-2-3-0-1.ndjson",
            "notes.txt",
        ] {
            assert_eq!(SinkFile::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_part_of_a_table_is_read_back_and_is_no_other_sinks_file() {
        let name = "aircraft-ab12-000000000017-3.parquet";
        let file = TableFile::parse(name).unwrap();
        assert_eq!((file.step.as_str(), file.checkpoint.0, file.part), ("aircraft", 17, 3));
        assert_eq!(file.to_string(), name);
        assert_eq!(SinkFile::parse(name), None);
        let files = "out-ab12-000000000017-2-3-0.ndjson";
        assert_eq!(TableFile::parse(files), None);
        for name in [name, files] {
            assert_eq!(committed_by(name).unwrap().1, "ab12");
        }
        for foreign in ["aircraft-ab12-17-3.parquet", "aircraft-ab12-000000000017.ndjson", "a.txt"]
        {
            assert_eq!(committed_by(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_staged_path_tells_run_and_generation() {
        let folder = staging_folder("ab12", Generation(4));
        assert_eq!(staged_by(&format!("{folder}/x.staged")), Some(("ab12", Generation(4))));
        for foreign in ["_weir/ab12/x", "_weir/ab12/g4/", "ab12/g4/x", "_weir//g4/x"] {
            assert_eq!(staged_by(foreign), None, "{foreign}");
        }
    }
}
