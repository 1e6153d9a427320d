//! Reads certificates again and again. By content: what is mounted from a secret changes by a
//! symbolic link, and looking is cheaper than being told.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use weir_runtime::clock;
use weir_runtime::task::{self, Task};

use super::{Pem, Tls, TlsError};
use crate::execution::error::chain;

/// From look to look.
const LOOK_EVERY: Duration = Duration::from_secs(5);

pub(super) async fn watch(folder: PathBuf) -> Result<(Arc<Tls>, Task<()>), TlsError> {
    let first = read(folder.clone()).await?;
    let tls = Tls::new(&first)?;
    let watched = Arc::clone(&tls);
    let task = task::spawn(async move {
        let mut last = first;
        loop {
            clock::sleep(LOOK_EVERY).await;
            // Between two looks at a folder that is being changed the parts may not fit; the next
            // look comes soon.
            match look(&watched, folder.clone(), &last).await {
                Ok(None) => {}
                Ok(Some(pem)) => {
                    tracing::info!(folder = %folder.display(), "new certificates are in use");
                    last = pem;
                }
                Err(error) => tracing::warn!(
                    folder = %folder.display(),
                    "the certificates cannot be renewed: {}", chain(&error)
                ),
            }
        }
    });
    Ok((tls, task))
}

async fn look(tls: &Tls, folder: PathBuf, last: &Pem) -> Result<Option<Pem>, TlsError> {
    let pem = read(folder).await?;
    if pem == *last {
        return Ok(None);
    }
    tls.replace(&pem)?;
    Ok(Some(pem))
}

async fn read(folder: PathBuf) -> Result<Pem, TlsError> {
    let name = folder.display().to_string();
    let reading = task::blocking(move || {
        let certificate = read_file(&folder, "tls.crt")?;
        let (authorities, key) = (read_file(&folder, "ca.crt")?, read_file(&folder, "tls.key")?);
        Ok(Pem { authorities, certificate, key })
    });
    let failed = |error| TlsError::Read { file: name, cause: std::io::Error::other(error) };
    reading.await.map_err(failed)?
}

fn read_file(folder: &Path, name: &str) -> Result<Vec<u8>, TlsError> {
    let file = folder.join(name);
    std::fs::read(&file).map_err(|cause| TlsError::Read { file: file.display().to_string(), cause })
}
