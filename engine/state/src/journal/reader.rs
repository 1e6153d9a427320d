//! Reading a journal: a base and the records after it, from scratch or further on.
//!
//! Whoever finds no record at a number looks for a base at or above it: only with none there is the
//! number free; else the floor has moved past the reader, who starts over.

use bytes::Bytes;
use futures::future::try_join_all;
use object_store::path::Path;
use prost::Message;

use super::base::BaseState;
use super::envelope::{Envelope, Kind, undecodable};
use super::error::JournalError;
use super::record::Record;
use super::state::JobState;
use super::{Folder, claims};
use crate::ids::Seq;
use crate::names;

/// How often a reader starts over because the floor moved under it.
const RESTARTS_MAX: usize = 10;

/// A journal's state, and the base it was read from (0: none).
#[derive(Clone, Debug, Default)]
pub(super) struct Read {
    pub(super) state: JobState,
    pub(super) base: Seq,
}

/// Reads the whole journal; with no record at all, the state has number 0.
pub(super) async fn read(folder: &Folder) -> Result<Read, JournalError> {
    for _ in 0..RESTARTS_MAX {
        if let Some(read) = read_once(folder).await? {
            return Ok(read);
        }
    }
    Err(unsettled(folder))
}

/// Reads what follows `read`; when the floor has passed it, all from scratch.
pub(super) async fn read_on(folder: &Folder, read: Read) -> Result<Read, JournalError> {
    match read_tail(folder, read).await? {
        Some(read) => Ok(read),
        None => self::read(folder).await,
    }
}

/// `None`: the floor moved meanwhile.
async fn read_once(folder: &Folder) -> Result<Option<Read>, JournalError> {
    let (bases, records) =
        futures::try_join!(numbered(folder, "base", None), numbered(folder, "journal", None))?;
    let base = bases.last().copied();
    // In one go: what is listed, and the number after it, which mostly is the journal's end.
    let mut wanted = records;
    wanted.retain(|seq| base.is_none_or(|base| *seq > base));
    wanted.push(wanted.last().copied().or(base).unwrap_or_default().next());
    let fetched = try_join_all(wanted.iter().map(|seq| fetch(folder, folder.record(*seq), *seq)));
    let (state, fetched) = futures::try_join!(read_base(folder, base), fetched)?;
    let Some(mut state) = state else { return Ok(None) };
    for (seq, bytes) in fetched {
        match bytes {
            Some(bytes) if seq == state.seq.next() => state = fold(folder, &state, &bytes)?,
            _ => break,
        }
    }
    let read = Read { state, base: base.unwrap_or_default() };
    if wanted.last() == Some(&read.state.seq.next()) {
        let moved = floor_at_or_above(folder, read.state.seq.next()).await?.is_some();
        return Ok((!moved).then_some(read));
    }
    // A gap in the listing, or records that came since.
    read_tail(folder, read).await
}

/// Reads on one by one to the end; `None`: the floor has passed it.
async fn read_tail(folder: &Folder, mut read: Read) -> Result<Option<Read>, JournalError> {
    loop {
        let next = read.state.seq.next();
        match folder.place.read(&folder.record(next)).await? {
            Some(bytes) => read.state = fold(folder, &read.state, &bytes)?,
            None if floor_at_or_above(folder, next).await?.is_some() => return Ok(None),
            None => return Ok(Some(read)),
        }
    }
}

/// The greatest base at or above `seq`.
pub(super) async fn floor_at_or_above(
    folder: &Folder,
    seq: Seq,
) -> Result<Option<Seq>, JournalError> {
    Ok(numbered(folder, "base", Some(seq)).await?.pop())
}

/// The claim that makes this incarnation void: a later one, or another one under its own number,
/// since everything was deleted by hand, and made again or not. `own` is the tag of its own claim, once
/// that is known, so that it need not be read each time.
pub(super) async fn superseded(
    root: &super::Root,
    folder: &Folder,
    own: &mut Option<String>,
) -> Result<Option<u64>, JournalError> {
    let number = folder.incarnation.number;
    let claims = claims::list(root).await?;
    match claims.last() {
        Some((last, _)) if *last > number => return Ok(Some(*last)),
        Some((last, tag)) if *last == number => {
            if tag.is_some() && tag == own {
                return Ok(None);
            }
            let claim = claims::read(root, number).await?;
            if claim.is_some_and(|claim| claim.id == folder.incarnation.id) {
                own.clone_from(tag);
                return Ok(None);
            }
        }
        _ => {}
    }
    Ok(Some(number))
}

/// Numbers of the objects in a sub-folder, from `from` on, in order.
pub(super) async fn numbered(
    folder: &Folder,
    name: &str,
    from: Option<Seq>,
) -> Result<Vec<Seq>, JournalError> {
    let before = from.and_then(|seq| seq.0.checked_sub(1));
    let offset = before.map(|before| folder.place.path(&format!("{name}/{before:020}")));
    let listed = folder.place.list(&folder.place.path(name), offset.as_ref()).await?;
    let names = listed.iter().filter_map(|meta| meta.location.filename());
    Ok(names.filter_map(names::number).map(Seq).collect())
}

async fn fetch(
    folder: &Folder,
    path: Path,
    seq: Seq,
) -> Result<(Seq, Option<Bytes>), JournalError> {
    Ok((seq, folder.place.read(&path).await?))
}

/// The state in a base, or the state before any record; `None`: the base is gone.
async fn read_base(folder: &Folder, base: Option<Seq>) -> Result<Option<JobState>, JournalError> {
    let Some(seq) = base else { return Ok(Some(JobState::default())) };
    let path = folder.base(seq);
    match folder.place.read(&path).await? {
        Some(bytes) => decode_base(folder, seq, &bytes).map(Some),
        None => Ok(None),
    }
}

pub(super) fn decode_base(
    folder: &Folder,
    seq: Seq,
    bytes: &Bytes,
) -> Result<JobState, JournalError> {
    let object = folder.place.display(&folder.base(seq));
    let envelope = Envelope::decode(&object, bytes, Kind::Base, seq.0)?;
    check_incarnation(folder, &object, &envelope)?;
    let base = BaseState::decode(envelope.payload).map_err(|error| undecodable(&object, &error))?;
    base.into_state().map_err(|what| JournalError::Contradiction { object, what })
}

/// The state after the record in `bytes`, which is the next one.
fn fold(folder: &Folder, state: &JobState, bytes: &Bytes) -> Result<JobState, JournalError> {
    let seq = state.seq.next();
    let (_, record) = decode_record(folder, seq, bytes)?;
    state.with(&record).map_err(|error| {
        let object = folder.place.display(&folder.record(seq));
        JournalError::Contradiction { object, what: chain(&error) }
    })
}

/// A record with its id.
pub(super) fn decode_record(
    folder: &Folder,
    seq: Seq,
    bytes: &Bytes,
) -> Result<(u64, Record), JournalError> {
    let object = folder.place.display(&folder.record(seq));
    let envelope = Envelope::decode(&object, bytes, Kind::Record, seq.0)?;
    check_incarnation(folder, &object, &envelope)?;
    let record = Record::decode(envelope.payload).map_err(|error| undecodable(&object, &error))?;
    Ok((envelope.id, record))
}

fn check_incarnation(
    folder: &Folder,
    object: &str,
    envelope: &Envelope,
) -> Result<(), JournalError> {
    let expected = folder.incarnation.to_string();
    if envelope.incarnation == expected {
        return Ok(());
    }
    let (object, found) = (object.to_owned(), envelope.incarnation.clone());
    Err(JournalError::OtherIncarnation { object, expected, found })
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn unsettled(folder: &Folder) -> JournalError {
    JournalError::Unsettled { folder: folder.place.uri.clone() }
}
