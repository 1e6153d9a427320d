//! Does a store honour create-if-absent? Asked when a job is created.

use bytes::Bytes;
use object_store::path::Path;
use weir_runtime::random;

use super::{Backoff, Create, Place, RETRY_MAX, StoreError};

/// Probes before a store is refused: a sweep may have taken a probe's object away meanwhile.
const PROBES_MAX: usize = 3;

/// Creates one unique name twice below `place`; the second must fail.
///
/// Leaves nothing behind. Errors: [`StoreError::IgnoresCreateIfAbsent`] when the store lets the
/// second one succeed or does not know the condition; others when it can't be written at all.
pub async fn probe_create_if_absent(place: &Place) -> Result<(), StoreError> {
    for _ in 0..PROBES_MAX {
        let path = place.path(&format!("claims/probe-{}", random::id()));
        let honoured = probe_once(place, &path).await;
        place.delete(std::slice::from_ref(&path)).await?;
        if honoured? {
            return Ok(());
        }
    }
    Err(StoreError::IgnoresCreateIfAbsent { uri: place.uri.clone() })
}

async fn probe_once(place: &Place, path: &Path) -> Result<bool, StoreError> {
    let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
    let mut backoff = Backoff::new(RETRY_MAX);
    while place.read(path).await?.is_none() {
        if let Err(error) = place.create_once(path, first.clone()).await {
            check(place, error, &mut backoff).await?;
        }
    }
    loop {
        match place.create_once(path, second.clone()).await {
            Ok(Create::Done) => return Ok(false),
            Ok(Create::Exists) => return Ok(place.read(path).await? == Some(first)),
            Err(error) => check(place, error, &mut backoff).await?,
        }
    }
}

/// Waits after an error that may pass; names a store that does not know the condition.
async fn check(place: &Place, error: StoreError, backoff: &mut Backoff) -> Result<(), StoreError> {
    if error.is_unknown_request() {
        return Err(StoreError::IgnoresCreateIfAbsent { uri: place.uri.clone() });
    }
    if !error.is_transient() {
        return Err(error);
    }
    if backoff.wait().await { Ok(()) } else { Err(error) }
}
