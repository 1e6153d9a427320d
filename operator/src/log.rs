//! Logs: of `weir run` into a file beside its workers', of a worker to its standard error (which
//! is a file). `WEIR_LOG` chooses what is written, as in `WEIR_LOG=debug`.

use std::fs::File;
use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Environment variable with the filter.
const VARIABLE: &str = "WEIR_LOG";
/// What is written without it.
const DEFAULT: &str = "info";

/// Logs into `file`.
pub(crate) fn to_file(file: File) {
    init(std::sync::Mutex::new(file));
}

/// Logs to standard error.
pub(crate) fn to_stderr() {
    init(io::stderr);
}

fn init<W: for<'a> MakeWriter<'a> + Send + Sync + 'static>(writer: W) {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    // A line that cannot be written (a full disk) is lost: told on standard error, which may be the
    // same file, it would panic, and so end the process.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(writer);
    // A second one in the same process is a test's: the first stays.
    let _ = subscriber.try_init();
}
