//! `weir state`: what lies in a job's state folder, with no job running. `ls` and `show` read only;
//! `state/gc.rs` deletes.

use std::fmt::Write as _;
use std::io::Write as _;

use jiff::Timestamp;
use prost::Message;
use weir_engine::protocol::{SourcePositions, SplitPosition};
use weir_state::journal::{
    CheckpointSummary, IncarnationSummary, JobSummary, JournalError, Root, summarize,
};
use weir_state::objects::{StoreOptions, open_existing};

use crate::exit::{Exit, report};

pub(crate) mod gc;

/// Writes what was asked for to standard output.
pub(crate) fn out(text: &str) -> Exit {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Exit::Done,
        Err(error) => {
            report(&error);
            Exit::Failed
        }
    }
}

/// Lists the runs.
pub(crate) async fn ls(uri: &str) -> Exit {
    with_summary(uri, |summary| {
        let mut text = String::new();
        for run in &summary.incarnations {
            text.push_str(&one_line(run));
        }
        text
    })
    .await
}

/// Shows the present run, or the last one.
pub(crate) async fn show(uri: &str) -> Exit {
    with_summary(uri, |summary| {
        let present = summary.incarnations.iter().find(|run| run.present);
        present.or(summary.incarnations.last()).map(in_full).unwrap_or_default()
    })
    .await
}

async fn with_summary(uri: &str, text: impl FnOnce(&JobSummary) -> String) -> Exit {
    let place = match open_existing(uri, &StoreOptions::default()).await {
        Ok(place) => place,
        Err(error) => {
            report(&error);
            return Exit::BadInput;
        }
    };
    match summarize(&Root::new(place)).await {
        Ok(summary) => out(&text(&summary)),
        Err(error) => unreadable(&error),
    }
}

/// Reports why a journal can't be used.
fn unreadable(error: &JournalError) -> Exit {
    report(error);
    match error {
        JournalError::Store(cause) if cause.is_transient() => Exit::Failed,
        _ => Exit::BadInput,
    }
}

fn phase(run: &IncarnationSummary) -> &'static str {
    match (run.present, run.finished, run.released) {
        (false, _, _) => "deleted in part",
        (true, true, _) => "finished",
        (true, false, true) => "suspended",
        (true, false, false) => "running or interrupted",
    }
}

fn one_line(run: &IncarnationSummary) -> String {
    let last = run.checkpoints.last();
    format!(
        "{}  job {}  {}  generation {}  checkpoint {}  {} bytes\n",
        run.incarnation,
        run.job,
        phase(run),
        run.generation,
        last.map_or(0, |last| last.id.0),
        last.map_or(0, |last| last.bytes),
    )
}

fn in_full(run: &IncarnationSummary) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<20}{value}");
    };
    line("run", run.incarnation.to_string());
    line("job", run.job.clone());
    line("phase", phase(run).to_owned());
    line("owner", run.owner.clone());
    line("journal records", run.seq.to_string());
    line("term", run.term.to_string());
    line("generation", run.generation.to_string());
    line("workers", run.workers.to_string());
    line("width", run.width.to_string());
    line("key groups", run.key_groups.to_string());
    line("unconfirmed pieces", run.unconfirmed_pieces.to_string());
    if !run.finished {
        // Of a finished one no record can say any more that it is deleted.
        line("to be deleted", run.condemned.to_string());
    }
    for (name, checkpoint) in &run.snapshots {
        line("snapshot", format!("{name} of checkpoint {checkpoint}"));
    }
    for checkpoint in &run.checkpoints {
        text.push_str(&checkpoint_lines(checkpoint));
    }
    if let Some(last) = run.state.last_checkpoint() {
        for source in &last.sources {
            text.push_str(&position_line(&source.step, &source.bytes));
        }
    }
    text
}

/// How far a source was read at the last checkpoint.
fn position_line(step: &str, bytes: &[u8]) -> String {
    let Ok(positions) = SourcePositions::decode(bytes) else {
        return format!("  {step} was read up to what this version cannot read\n");
    };
    let mut text = format!("  {step} was read up to split {}", positions.frontier);
    for SplitPosition { split, position, done, .. } in positions.splits {
        let _ = match done {
            true => write!(text, ", split {split} to its end"),
            false => write!(text, ", split {split} to {position}"),
        };
    }
    text.push('\n');
    text
}

fn checkpoint_lines(checkpoint: &CheckpointSummary) -> String {
    let time = Timestamp::from_millisecond(checkpoint.wall_ms);
    let time = time.map_or_else(|_| checkpoint.wall_ms.to_string(), |time| time.to_string());
    let mut text = format!(
        "checkpoint {} of generation {} at {time}: {} objects, {} bytes, {} written for it\n",
        checkpoint.id,
        checkpoint.generation,
        checkpoint.objects,
        checkpoint.bytes,
        checkpoint.bytes_written,
    );
    for shard in &checkpoint.shards {
        let _ = writeln!(
            text,
            "  {} key groups {}: {} views, {} bytes, {} entries",
            shard.step, shard.range, shard.views, shard.bytes, shard.entries
        );
    }
    text
}
