//! What is shown while a job runs: one live line on a terminal, plain lines every few seconds
//! otherwise. All of it on standard error.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use tokio::sync::watch;
use weir_engine::coordinator::status::{Phase, Status};
use weir_runtime::clock;

use crate::exit::{keep_below, say};

/// Time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Shows a job until it is over.
pub(crate) async fn show(status: watch::Receiver<Status>) {
    if std::io::stderr().is_terminal() { live(status).await } else { plain(status).await }
}

async fn live(mut status: watch::Receiver<Status>) {
    let style = ProgressStyle::with_template("{spinner} {wide_msg}");
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    keep_below(&bar);
    let mut message = String::new();
    let mut compaction = Compacting::default();
    while status.changed().await.is_ok() {
        let now = status.borrow_and_update().clone();
        if now.message != message && !now.message.is_empty() {
            say(&now.message);
        }
        message.clone_from(&now.message);
        compaction.tell(&now);
        bar.set_message(line(&now));
        bar.tick();
    }
    bar.finish_and_clear();
}

async fn plain(mut status: watch::Receiver<Status>) {
    let (mut phase, mut message) = (Phase::Starting, String::new());
    let mut next = clock::now() + PLAIN_EVERY;
    let mut compaction = Compacting::default();
    while status.changed().await.is_ok() {
        let now = status.borrow_and_update().clone();
        if now.message != message && !now.message.is_empty() && !now.message.starts_with("waiting")
        {
            say(&now.message);
        }
        message.clone_from(&now.message);
        compaction.tell(&now);
        // The summary says the rest.
        if !now.phase.is_over() && (now.phase != phase || clock::now() >= next) {
            phase = now.phase.clone();
            next = clock::now() + PLAIN_EVERY;
            say(&line(&now));
        }
    }
}

/// Whether compactors do what they are there for, as it was told last.
#[derive(Debug, Default)]
struct Compacting {
    is_amiss: bool,
}

impl Compacting {
    /// Says when that changes, once rows flow.
    fn tell(&mut self, now: &Status) {
        let Some(said) = self.words(now) else { return };
        say(&said);
    }

    fn words(&mut self, now: &Status) -> Option<String> {
        let compaction = now.compaction.as_ref().filter(|_| now.phase == Phase::Running)?;
        let is_amiss = !compaction.problem.is_empty();
        if std::mem::replace(&mut self.is_amiss, is_amiss) == is_amiss {
            return None;
        }
        Some(match is_amiss {
            true => format!("workers compact themselves: {}", compaction.problem),
            false => "compactors compact".to_owned(),
        })
    }
}

/// A status in one line.
fn line(status: &Status) -> String {
    let mut text = format!(
        "{}: {} rows in ({}/s), {} rows out, watermark {}, checkpoint {}, workers {}/{}",
        status.phase,
        status.rows_in,
        status.rows_per_second,
        status.rows_out,
        watermark(status.watermark_ms),
        status.checkpoint,
        status.workers_ready,
        status.workers_wanted,
    );
    for (count, what) in [
        (status.late_rows(), "late rows"),
        (status.bad_rows(), "bad rows"),
        (status.restarts, "restarts"),
        (status.replaced, "workers replaced"),
        (u64::from(status.checkpoint_failures), "checkpoints failed in a row"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}

fn watermark(watermark_ms: Option<i64>) -> String {
    match watermark_ms {
        None => "-".to_owned(),
        Some(i64::MAX) => "at the end".to_owned(),
        Some(ms) => Timestamp::from_millisecond(ms)
            .map_or_else(|_| ms.to_string(), |time| format!("{time:.0}")),
    }
}

#[cfg(test)]
mod tests {
    use weir_engine::coordinator::status::Compaction;

    use super::*;

    #[test]
    fn what_becomes_of_compactors_is_said_once() {
        let status = |problem: &str| Status {
            phase: Phase::Running,
            compaction: Some(Compaction { problem: problem.to_owned(), ..Compaction::default() }),
            ..Status::default()
        };
        let mut compacting = Compacting::default();
        assert_eq!(compacting.words(&status("")), None);
        let said = compacting.words(&status("none is there"));
        assert_eq!(said.as_deref(), Some("workers compact themselves: none is there"));
        assert_eq!(compacting.words(&status("others")), None);
        let starting = Status { phase: Phase::Starting, ..status("") };
        assert_eq!(compacting.words(&starting), None, "nothing is compacted then");
        assert_eq!(compacting.words(&status("")).as_deref(), Some("compactors compact"));
        assert_eq!(compacting.words(&Status::default()), None, "of a job without compactors");
    }

    #[test]
    fn a_line_says_rows_watermark_checkpoint_and_workers() {
        let status = Status {
            phase: Phase::Running,
            rows_in: 10,
            rows_per_second: 5,
            rows_out: 2,
            watermark_ms: Some(1_356_998_400_000),
            workers_ready: 1,
            workers_wanted: 2,
            restarts: 3,
            ..Status::default()
        };
        assert_eq!(
            line(&status),
            "running: 10 rows in (5/s), 2 rows out, watermark 2013-01-01T00:00:00Z, checkpoint 0, \
             workers 1/2, 3 restarts"
        );
        assert_eq!(watermark(Some(i64::MAX)), "at the end");
        assert_eq!(watermark(None), "-");
    }
}
