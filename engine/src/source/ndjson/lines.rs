//! The lines that begin in a byte range of an object.
//!
//! A range owns the lines whose first byte lies in it, wherever they end, so that ranges that meet
//! share no line and miss none.

use crate::source::SourceError;
use crate::source::ndjson::stream::{ByteStream, Compression};
use crate::source::object::PinnedObject;

/// Bytes of a line, its end included.
pub(crate) const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A byte range of an object; of a compressed one, of what was compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// One line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Of its first byte.
    pub(crate) offset: u64,
    pub(crate) text: &'a [u8],
}

/// Why there is no next line.
#[derive(Debug)]
pub(crate) enum LineError {
    Source(SourceError),
    TooLong { offset: u64, text: Vec<u8> },
}

/// Reads lines. Owns the bytes that were read and not returned yet.
pub(crate) struct Lines {
    object: PinnedObject,
    compression: Compression,
    range: Range,
    stream: ByteStream,
    buffer: Vec<u8>,
    /// Where in `buffer` the next line begins.
    at: usize,
    /// Where in the object `buffer` begins.
    buffer_offset: u64,
    ended: bool,
    /// What precedes the first line of the range is still to be passed.
    behind: bool,
    position: u64,
}

impl Lines {
    /// The lines of `range` from `position` (bytes behind its start) on.
    pub(crate) fn open(
        object: PinnedObject,
        compression: Compression,
        range: Range,
        position: u64,
    ) -> Result<Self, SourceError> {
        // Whether a line begins exactly at the start is told by the byte before it.
        let behind = position == 0 && range.start > 0;
        let offset = range.start + position - u64::from(behind);
        let stream = ByteStream::open(&object, compression, offset)?;
        Ok(Self {
            object,
            compression,
            range,
            stream,
            buffer: Vec::new(),
            at: 0,
            buffer_offset: offset,
            ended: false,
            behind,
            position,
        })
    }

    /// The object that is read.
    pub(crate) fn object(&self) -> &PinnedObject {
        &self.object
    }

    /// Bytes from the range's start to the end of the last line returned.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next line that begins in the range. Not cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Line<'_>>, LineError> {
        while self.behind {
            // The rest of a line that belongs to the range before, however long it is.
            match find_newline(&self.buffer[self.at..]) {
                Some(newline) => {
                    self.at += newline + 1;
                    self.behind = false;
                }
                None => {
                    self.at = self.buffer.len();
                    if !self.fill().await.map_err(LineError::Source)? {
                        return Ok(None);
                    }
                }
            }
        }
        let offset = self.buffer_offset + self.at as u64;
        if offset >= self.range.end {
            return Ok(None);
        }
        let Some(end) = self.line_end(offset).await? else { return Ok(None) };
        let line = &self.buffer[self.at..end.text];
        self.at = end.next;
        self.position = self.buffer_offset + self.at as u64 - self.range.start;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let marked = (offset == 0).then(|| line.strip_prefix(BYTE_ORDER_MARK)).flatten();
        Ok(Some(Line { offset, text: marked.unwrap_or(line) }))
    }

    /// Fills the buffer until the line that begins at `at` is complete.
    async fn line_end(&mut self, offset: u64) -> Result<Option<LineEnd>, LineError> {
        let mut searched = 0;
        loop {
            if let Some(newline) = find_newline(&self.buffer[self.at + searched..]) {
                let text = self.at + searched + newline;
                return Ok(Some(LineEnd { text, next: text + 1 }));
            }
            searched = self.buffer.len() - self.at;
            if searched > LINE_BYTES_MAX {
                let text = self.buffer[self.at..self.at + LINE_BYTES_MAX.min(4096)].to_vec();
                return Err(LineError::TooLong { offset, text });
            }
            if !self.fill().await.map_err(LineError::Source)? {
                let end = self.buffer.len();
                return Ok((searched > 0).then_some(LineEnd { text: end, next: end }));
            }
        }
    }

    /// Appends a chunk, dropping what was returned; false at the object's end.
    async fn fill(&mut self) -> Result<bool, SourceError> {
        if self.ended {
            return Ok(false);
        }
        let Some(chunk) = self.stream.next().await? else {
            self.ended = true;
            return Ok(false);
        };
        self.buffer.drain(..self.at);
        self.buffer_offset += self.at as u64;
        self.at = 0;
        self.buffer.extend_from_slice(&chunk);
        Ok(true)
    }

    /// The number of the line that begins at `offset`, from 1, counted by reading anew what lies
    /// before it; `None` when that fails.
    pub(crate) async fn line_number(&self, offset: u64) -> Option<u64> {
        let mut stream = ByteStream::open(&self.object, self.compression, 0).ok()?;
        let (mut left, mut lines) = (offset, 1);
        while left > 0 {
            let chunk = stream.next().await.ok()??;
            let part = &chunk[..chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            lines += part.iter().filter(|&&byte| byte == b'\n').count() as u64;
            left -= part.len() as u64;
        }
        Some(lines)
    }
}

/// Where the text of a line ends and where the next line begins.
struct LineEnd {
    text: usize,
    next: usize,
}

fn find_newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| byte == b'\n')
}
