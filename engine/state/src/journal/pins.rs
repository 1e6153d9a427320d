//! Pins: whoever reads or forks a snapshot holds it, without writing to the job's journal.
//!
//! A pin is written first and then the tombstone is looked for; a deletion writes the tombstone first
//! and then looks for pins. So at least one of the two sees the other.
//!
//! An incarnation that is not the present one goes as a whole, in the same way: it is closed first,
//! and only then looked at for pins and snapshots.

use bytes::Bytes;
use prost::Message;

use super::envelope::{Envelope, Kind, undecodable};
use super::error::JournalError;
use super::{Folder, Root, reader};
use crate::names::Incarnation;

const TOMBSTONE: &str = "deleted";
/// No new pin counts in this incarnation: somebody looks whether it can be deleted.
const CLOSED: &str = "closed";
/// Nobody held it when it was closed: it is being deleted.
const DOOMED: &str = "doomed";

/// The content of a pin.
#[derive(Clone, PartialEq, Eq, Message)]
struct Pin {
    /// When it stops to count, milliseconds since 1970; 0: never.
    #[prost(int64, tag = "1")]
    expires_ms: i64,
}

/// Pins `snapshot` of an incarnation for `holder` (a fork's job, or a reader with an expiry).
///
/// On `Ok` the snapshot stays until [`unpin`] or the expiry. Errors:
/// [`JournalError::SnapshotGone`] when it is being deleted.
pub async fn pin(
    root: &Root,
    incarnation: &Incarnation,
    snapshot: &str,
    holder: &str,
    expires_ms: Option<i64>,
) -> Result<(), JournalError> {
    let folder = Folder::new(root, incarnation.clone());
    let pin = Pin { expires_ms: expires_ms.unwrap_or(0) };
    let path = path(&folder, snapshot, holder);
    folder.place.write(&path, sealed(&folder, &pin)).await?;
    let gone = [self::path(&folder, snapshot, TOMBSTONE), closed(&folder), doomed(&folder)];
    for sign in gone {
        if folder.place.read(&sign).await?.is_some() {
            folder.place.delete(&[path]).await?;
            return Err(JournalError::SnapshotGone { snapshot: snapshot.to_owned() });
        }
    }
    Ok(())
}

/// Takes a pin away.
pub async fn unpin(
    root: &Root,
    incarnation: &Incarnation,
    snapshot: &str,
    holder: &str,
) -> Result<(), JournalError> {
    let folder = Folder::new(root, incarnation.clone());
    Ok(folder.place.delete(&[path(&folder, snapshot, holder)]).await?)
}

/// Declares that `snapshot` is to be deleted; on `Ok` nobody holds it and its name may be given up
/// with [`super::Entry::DropSnapshot`].
///
/// Errors: [`JournalError::Pinned`]: not yet; no new pin succeeds meanwhile.
pub async fn release_snapshot(
    root: &Root,
    incarnation: &Incarnation,
    snapshot: &str,
    now_ms: i64,
) -> Result<(), JournalError> {
    let folder = Folder::new(root, incarnation.clone());
    let tombstone = path(&folder, snapshot, TOMBSTONE);
    folder.place.write(&tombstone, sealed(&folder, &Pin::default())).await?;
    let held = held(&folder, &format!("pins/{snapshot}"), now_ms).await?;
    match held.into_iter().next() {
        Some(holder) => Err(JournalError::Pinned { snapshot: snapshot.to_owned(), holder }),
        None => Ok(()),
    }
}

/// Who holds snapshots of an incarnation, once for each pin that counts.
pub async fn holders(
    root: &Root,
    incarnation: &Incarnation,
    now_ms: i64,
) -> Result<Vec<String>, JournalError> {
    held(&Folder::new(root, incarnation.clone()), "pins", now_ms).await
}

/// The holders of the pins below `name` that have not expired.
async fn held(folder: &Folder, name: &str, now_ms: i64) -> Result<Vec<String>, JournalError> {
    let listed = folder.place.list(&folder.place.path(name), None).await?;
    let mut holders = Vec::new();
    for path in listed.into_iter().map(|meta| meta.location) {
        let holder = path.filename().unwrap_or_default().to_owned();
        if holder == TOMBSTONE {
            continue;
        }
        let bytes = folder.place.read(&path).await?;
        let object = folder.place.display(&path);
        let Some(bytes) = bytes else { continue };
        let envelope = Envelope::decode(&object, &bytes, Kind::Pin, 0)?;
        let pin = Pin::decode(envelope.payload).map_err(|error| undecodable(&object, &error))?;
        if pin.expires_ms == 0 || pin.expires_ms > now_ms {
            holders.push(holder);
        }
    }
    Ok(holders)
}

/// Whether a pin, or a snapshot that nobody has given up, holds an incarnation that is not the present
/// one.
pub async fn is_held(
    root: &Root,
    incarnation: &Incarnation,
    now_ms: i64,
) -> Result<bool, JournalError> {
    let folder = Folder::new(root, incarnation.clone());
    if folder.place.read(&doomed(&folder)).await?.is_some() {
        return Ok(false);
    }
    if !held(&folder, "pins", now_ms).await?.is_empty() {
        return Ok(true);
    }
    for snapshot in reader::read(&folder).await?.state.snapshots.keys() {
        if folder.place.read(&path(&folder, snapshot, TOMBSTONE)).await?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Decides that all of a dead incarnation goes; false: it is held. Once decided it stays decided, since
/// what is half deleted can't be asked any more who holds it.
pub(crate) async fn condemn(
    root: &Root,
    incarnation: &Incarnation,
    now_ms: i64,
) -> Result<bool, JournalError> {
    let folder = Folder::new(root, incarnation.clone());
    let (closed, doomed) = (closed(&folder), doomed(&folder));
    if folder.place.read(&doomed).await?.is_some() {
        return Ok(true);
    }
    folder.place.write(&closed, sealed(&folder, &Pin::default())).await?;
    if is_held(root, incarnation, now_ms).await? {
        folder.place.delete(&[closed]).await?;
        return Ok(false);
    }
    folder.place.write(&doomed, sealed(&folder, &Pin::default())).await?;
    Ok(true)
}

fn closed(folder: &Folder) -> object_store::path::Path {
    folder.place.path(CLOSED)
}

/// Goes last when an incarnation is deleted.
pub(crate) fn doomed(folder: &Folder) -> object_store::path::Path {
    folder.place.path(DOOMED)
}

fn path(folder: &Folder, snapshot: &str, holder: &str) -> object_store::path::Path {
    folder.place.path(&format!("pins/{snapshot}/{holder}"))
}

/// The same pin always has the same bytes, so writing it again changes nothing.
fn sealed(folder: &Folder, pin: &Pin) -> Bytes {
    let incarnation = folder.incarnation.to_string();
    let payload = pin.encode_to_vec().into();
    Envelope { kind: Kind::Pin, number: 0, id: 0, incarnation, payload }.encode()
}
