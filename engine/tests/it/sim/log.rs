//! What processes log, with simulated time and the process's name, for a run that is repeated.

use std::fmt;

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use weir_runtime::sim::{self, Process};

struct SimTime;

impl FormatTime for SimTime {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        let process = Process::current();
        let name = process.as_ref().map_or("-", Process::name);
        write!(out, "{:>9} {name:<24}", sim::elapsed_ms())
    }
}

/// Shows everything of weir that is logged on this thread, until the guard is dropped.
pub(crate) fn show() -> tracing::subscriber::DefaultGuard {
    let filter = tracing_subscriber::EnvFilter::new("info,weir_engine=debug,weir_state=debug");
    let shown = tracing_subscriber::fmt().with_timer(SimTime).with_env_filter(filter);
    tracing::subscriber::set_default(shown.with_ansi(false).finish())
}

/// A line for whoever repeats a run.
#[expect(clippy::print_stdout, reason = "it is shown with the test's output")]
pub(crate) fn line(text: &str) {
    println!("{text}");
}
