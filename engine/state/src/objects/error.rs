//! Errors of object stores, by what a user can do about them.

use std::error::Error as _;
use std::fmt;
use std::io;

use object_store::Error;

/// What was asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreOperation {
    /// A read.
    Read,
    /// A write.
    Write,
    /// A listing.
    List,
    /// A deletion.
    Delete,
}

impl fmt::Display for StoreOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::List => "list",
            Self::Delete => "delete",
        })
    }
}

/// What can go wrong with an object store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The URI is none that is understood.
    #[error("{uri:?} cannot be opened: {what}")]
    BadUri {
        /// The URI.
        uri: String,
        /// What is wrong with it, and what would be right.
        what: String,
    },
    /// The folder does not exist.
    #[error("{uri} does not exist")]
    Missing {
        /// The folder.
        uri: String,
    },
    /// No permission.
    #[error(
        "cannot {operation} {object}: permission denied; give this user the right, or choose another folder"
    )]
    Denied {
        /// What was asked.
        operation: StoreOperation,
        /// Of which object or folder.
        object: String,
        /// The store's answer.
        #[source]
        cause: Error,
    },
    /// No space is left.
    #[error("cannot {operation} {object}: no space is left; free some and run again")]
    Full {
        /// What was asked.
        operation: StoreOperation,
        /// Of which object.
        object: String,
        /// The store's answer.
        #[source]
        cause: Error,
    },
    /// The store lets a second create of one name succeed, or does not know the condition.
    #[error(
        "the store of {uri} does not honour create-if-absent (two creates of one name must not both succeed), so it cannot hold a job's state; choose a store that does"
    )]
    IgnoresCreateIfAbsent {
        /// The folder.
        uri: String,
    },
    /// Any other error; it may pass.
    #[error("cannot {operation} {object}")]
    Failed {
        /// What was asked.
        operation: StoreOperation,
        /// Of which object or folder.
        object: String,
        /// The store's answer.
        #[source]
        cause: Error,
    },
}

impl StoreError {
    /// Whether trying again may help without anybody doing something.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Failed { .. }) && !self.is_unknown_request()
    }

    /// Whether the store does not know how to do what was asked.
    pub(super) fn is_unknown_request(&self) -> bool {
        let Self::Failed { cause, .. } = self else { return false };
        matches!(cause, Error::NotImplemented { .. } | Error::NotSupported { .. })
            || http_status(cause) == Some(501)
    }

    pub(super) fn classify(operation: StoreOperation, object: String, cause: Error) -> Self {
        match refusal(&cause) {
            Some(Refusal::Full) => Self::Full { operation, object, cause },
            Some(Refusal::Denied) => Self::Denied { operation, object, cause },
            // Of a single object it would be NotFound.
            None if http_status(&cause) == Some(404) && is_generic(&cause) => {
                Self::Missing { uri: object }
            }
            None => Self::Failed { operation, object, cause },
        }
    }
}

/// Whether a store in the network does not answer, or answers that it cannot now: nothing that
/// whoever asked could do better. A local disk is never away.
pub fn is_outage(error: &Error) -> bool {
    let Error::Generic { store, .. } = error else { return false };
    let is_busy = |status| matches!(status, 408 | 429 | 500..);
    *store != "LocalFileSystem"
        && refusal(error).is_none()
        && http_status(error).is_none_or(is_busy)
}

fn is_generic(error: &Error) -> bool {
    matches!(error, Error::Generic { .. })
}

/// What a store says that goes on until somebody does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No space is left.
    Full,
    /// The right is missing.
    Denied,
}

/// Whether `error` is one that trying again does not cure.
pub(crate) fn refusal(error: &Error) -> Option<Refusal> {
    use io::ErrorKind;
    match http_status(error) {
        Some(401 | 403) => return Some(Refusal::Denied),
        Some(507) => return Some(Refusal::Full),
        _ => {}
    }
    match io_kind(error) {
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Some(Refusal::Full),
        Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => Some(Refusal::Denied),
        _ => matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. })
            .then_some(Refusal::Denied),
    }
}

/// The kind of the I/O error that caused `error`, if one did.
fn io_kind(error: &Error) -> Option<io::ErrorKind> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

/// The status of the HTTP answer that caused `error`, if one did. The client library tells it only
/// in the text of an error type that it keeps to itself.
fn http_status(error: &Error) -> Option<u16> {
    let text = error.to_string();
    let (_, status) = text.split_once("non-2xx status code: ")?;
    status.get(..3)?.parse().ok()
}
