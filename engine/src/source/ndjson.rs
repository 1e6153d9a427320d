//! Reads ndjson: one JSON object per line, typed by the declared schema.
//!
//! - `stream.rs` — an object's bytes in chunks, decompressed.
//! - `lines.rs` — the lines that begin in a byte range.
//! - `json.rs` — a JSON scanner that keeps numbers as they were written.
//! - `build.rs` — values into Arrow columns.
//!
//! A missing field is null, unknown fields are ignored, a string is never taken for a number, an
//! integer that does not fit is an error. Blank lines are no rows.

use arrow::array::{RecordBatch, RecordBatchOptions, UInt64Array};
use async_trait::async_trait;

use crate::rows::Rows;
use crate::source::columns::Columns;
use crate::source::{SourceError, SplitReader};
use build::BadValue;
use lines::{Line, LineError};

mod build;
pub(crate) mod json;
mod lines;
pub(crate) mod stream;

pub(crate) use build::RowBuilder;
pub(crate) use lines::{Lines, Range};

/// Bytes of lines after which a batch ends, however few rows it has.
const BATCH_BYTES: u64 = 4 * 1024 * 1024;
/// Characters of a bad row's text that an error shows.
const TEXT_CHARS_MAX: usize = 200;
/// Fewest characters that are shown of a longer line.
const EXCERPT_CHARS_LEAST: usize = 50;

/// Reads the rest of one byte range of a file.
pub(crate) struct NdjsonReader {
    lines: Lines,
    columns: Columns,
    builder: RowBuilder,
    origin_base: u64,
}

impl NdjsonReader {
    /// Opens the lines of a range that begin at or behind its position.
    pub(crate) fn open(lines: Lines, columns: Columns, origin_base: u64) -> Self {
        let builder = RowBuilder::new(columns.read.fields());
        Self { lines, columns, builder, origin_base }
    }

    async fn bad_line(&self, offset: u64, text: &[u8], bad: BadValue) -> SourceError {
        let line = match self.lines.line_number(offset).await {
            Some(line) => format!("line {line} (byte {offset})"),
            None => format!("byte {offset}"),
        };
        let column = bad.column.map(|name| format!(", column {name}")).unwrap_or_default();
        let text = excerpt(text, bad.at);
        let what = if text.is_empty() { bad.what } else { format!("{}: {text}", bad.what) };
        let object = self.lines.object();
        SourceError::BadRow {
            step: object.step.clone(),
            place: format!("{}, {line}{column}", object.name),
            what,
        }
    }

    async fn explain(&self, error: LineError) -> SourceError {
        match error {
            LineError::Source(error) => error,
            LineError::TooLong { offset, text } => {
                let what = format!("the line is longer than {} bytes", lines::LINE_BYTES_MAX);
                self.bad_line(offset, &text, BadValue { column: None, at: 0, what }).await
            }
        }
    }

    fn finish(&mut self, origins: Vec<u64>) -> Rows {
        let arrays = self.builder.finish();
        let options = RecordBatchOptions::new().with_row_count(Some(origins.len()));
        let schema = std::sync::Arc::clone(&self.columns.read);
        let batch = RecordBatch::try_new_with_options(schema, arrays, &options)
            .expect("the builder makes the columns of `read`, one value per row each");
        self.columns
            .rows(&batch, UInt64Array::from(origins))
            .expect("a null event time was refused with its line")
    }
}

#[async_trait]
impl SplitReader for NdjsonReader {
    async fn next(&mut self, rows_max: usize) -> Result<Option<Rows>, SourceError> {
        let (mut origins, begun) = (Vec::new(), self.lines.position());
        while origins.len() < rows_max.max(1) {
            let line = match self.lines.next().await {
                Ok(line) => line,
                Err(error) => return Err(self.explain(error).await),
            };
            let Some(Line { offset, text }) = line else { break };
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if let Err(bad) = self.builder.append(text, self.columns.time) {
                let text = text.to_vec();
                return Err(self.bad_line(offset, &text, bad).await);
            }
            origins.push(self.origin_base + offset);
            if self.lines.position() - begun >= BATCH_BYTES {
                break;
            }
        }
        Ok(if origins.is_empty() { None } else { Some(self.finish(origins)) })
    }

    fn position(&self) -> u64 {
        self.lines.position()
    }
}

/// At most [`TEXT_CHARS_MAX`] characters of a line that show what is at byte `at`.
fn excerpt(line: &[u8], at: usize) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim();
    if text.chars().count() <= TEXT_CHARS_MAX {
        return text.to_owned();
    }
    let chars_before = String::from_utf8_lossy(&line[..at.min(line.len())]).chars().count();
    // From the line's beginning, unless what is wrong would be cut off.
    let skipped = if chars_before < TEXT_CHARS_MAX * 3 / 4 { 0 } else { chars_before };
    // Near the end of the line what stands before it says more.
    let chars = text.chars().count();
    let skipped = skipped.min(chars.saturating_sub(EXCERPT_CHARS_LEAST));
    let shown: String = text.chars().skip(skipped).take(TEXT_CHARS_MAX).collect();
    let more = chars > skipped + TEXT_CHARS_MAX;
    format!("{}{shown}{}", if skipped > 0 { "…" } else { "" }, if more { "…" } else { "" })
}

#[cfg(test)]
mod tests;
