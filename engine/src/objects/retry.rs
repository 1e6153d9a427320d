//! Retries of single requests to the stores of sources and sinks.
//!
//! Only requests that may be repeated come here: reads, puts of the same bytes under the same
//! name, deletes, copies.

use std::future::Future;
use std::time::Duration;

use object_store::Error;
use weir_runtime::{clock, random};

/// Attempts of one request, the first included.
const ATTEMPTS_MAX: u32 = 6;
/// Longest wait before the second attempt; it doubles with each further one.
const FIRST_WAIT_MS: u64 = 50;
/// Longest wait between two attempts.
const WAIT_MS_MAX: u64 = 2_000;
/// Longest time that one attempt may take.
const REQUEST_MAX: Duration = Duration::from_secs(60);

/// Whether another attempt can't help.
pub fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::NotFound { .. }
            | Error::InvalidPath { .. }
            | Error::NotSupported { .. }
            | Error::AlreadyExists { .. }
            | Error::Precondition { .. }
            | Error::NotModified { .. }
            | Error::NotImplemented { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
    )
}

/// Makes a request until it succeeds, fails for good, or [`ATTEMPTS_MAX`] are used up.
///
/// Cancel safety: that of the request; between attempts nothing is lost.
pub async fn retry<T, F, Fut>(mut request: F) -> Result<T, Error>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<T, Error>> + Send,
{
    let mut attempt = 1;
    loop {
        let answer = clock::timeout(REQUEST_MAX, request()).await.unwrap_or_else(|elapsed| {
            Err(Error::Generic { store: "request", source: elapsed.into() })
        });
        match answer {
            Err(error) if attempt < ATTEMPTS_MAX && !is_final(&error) => {
                let longest = (FIRST_WAIT_MS << (attempt - 1)).min(WAIT_MS_MAX);
                // Jitter: between half of the wait and all of it.
                let wait = longest / 2 + random::below(longest / 2 + 1);
                clock::sleep(Duration::from_millis(wait)).await;
                attempt += 1;
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn flaky() -> Error {
        Error::Generic { store: "test", source: "no answer".into() }
    }

    #[test]
    fn a_passing_fault_is_outlived_and_a_lasting_one_is_not() {
        let calls = weir_runtime::sim::run(1, async {
            let calls = std::sync::atomic::AtomicU32::new(0);
            let next = || calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            let answer = retry(|| async {
                let call = next();
                if call < 3 { Err(flaky()) } else { Ok(call) }
            })
            .await;
            assert_eq!(answer.unwrap(), 3);
            calls.store(0, std::sync::atomic::Ordering::Relaxed);
            let answer: Result<(), Error> = retry(|| async {
                next();
                Err(flaky())
            })
            .await;
            assert!(answer.is_err());
            calls.into_inner()
        });
        assert_eq!(calls, ATTEMPTS_MAX);
    }

    #[test]
    fn a_missing_object_is_asked_for_once() {
        let calls = Cell::new(0);
        let calls = std::sync::Mutex::new(calls);
        weir_runtime::sim::run(1, async {
            let answer: Result<(), Error> = retry(|| async {
                let calls = calls.lock().unwrap();
                calls.set(calls.get() + 1);
                Err(Error::NotFound { path: "x".into(), source: "gone".into() })
            })
            .await;
            assert!(answer.is_err());
        });
        assert_eq!(calls.lock().unwrap().get(), 1);
    }
}
