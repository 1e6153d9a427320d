//! An object's bytes in chunks from any offset on; the next chunk is read ahead.
//!
//! A compressed object is decompressed from its beginning: offsets count decompressed bytes, and
//! what lies before the wanted one is thrown away.

use std::io::Write;
use std::ops::Range;

use bytes::Bytes;
use weir_runtime::task::{self, Task};
use zstd::stream::raw::Operation as _;

use crate::source::SourceError;
use crate::source::object::PinnedObject;

/// Bytes of one read.
const CHUNK_BYTES: u64 = 1024 * 1024;
/// Compressed bytes of gzip that are decompressed at once; they become a thousand times as many at
/// most.
const GZIP_BYTES: usize = 16 * 1024;
/// Bytes that zstd gives at once.
const INFLATED_BYTES: usize = 1024 * 1024;

/// How an object is compressed, by its suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
}

impl Compression {
    /// Splits a name into what lies below the compression and the compression.
    pub(crate) fn of_name(name: &str) -> (&str, Self) {
        if let Some(name) = name.strip_suffix(".gz") {
            return (name, Self::Gzip);
        }
        match name.strip_suffix(".zst") {
            Some(name) => (name, Self::Zstd),
            None => (name, Self::None),
        }
    }
}

enum Inflate {
    Not,
    Gzip(Box<flate2::write::MultiGzDecoder<Vec<u8>>>),
    Zstd {
        decoder: Box<zstd::stream::raw::Decoder<'static>>,
        /// The last frame is complete: the object may end here, or another begin.
        between_frames: bool,
        /// It has more to give without any further input.
        full: bool,
    },
}

/// A read that is under way.
struct Ahead {
    range: Range<u64>,
    read: Task<Result<Bytes, SourceError>>,
}

/// Chunks of an object, in order.
pub(crate) struct ByteStream {
    object: PinnedObject,
    inflate: Inflate,
    /// Compressed bytes that were read and not decompressed yet.
    compressed: Bytes,
    ahead: Option<Ahead>,
    /// Where in the object the next read begins.
    at: u64,
    /// Decompressed bytes that are still to be thrown away.
    skip: u64,
}

impl ByteStream {
    /// The bytes from `offset` on (of the decompressed object).
    pub(crate) fn open(
        object: &PinnedObject,
        compression: Compression,
        offset: u64,
    ) -> Result<Self, SourceError> {
        let inflate = match compression {
            Compression::None => Inflate::Not,
            Compression::Gzip => {
                Inflate::Gzip(Box::new(flate2::write::MultiGzDecoder::new(Vec::new())))
            }
            Compression::Zstd => {
                let decoder = zstd::stream::raw::Decoder::new()
                    .map_err(|cause| object.damaged(&format!("no zstd decoder: {cause}")))?;
                Inflate::Zstd { decoder: Box::new(decoder), between_frames: true, full: false }
            }
        };
        let plain = matches!(inflate, Inflate::Not);
        Ok(Self {
            object: object.clone(),
            inflate,
            compressed: Bytes::new(),
            ahead: None,
            at: if plain { offset } else { 0 },
            skip: if plain { 0 } else { offset },
        })
    }

    /// The next bytes, never none at all; `None` at the end of the object.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        loop {
            let mut bytes = self.next_inflated().await?;
            let Some(chunk) = &mut bytes else { return Ok(None) };
            let skipped = chunk.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= skipped as u64;
            let _ = chunk.split_to(skipped);
            if !chunk.is_empty() {
                return Ok(bytes);
            }
        }
    }

    async fn next_inflated(&mut self) -> Result<Option<Bytes>, SourceError> {
        if self.compressed.is_empty() && !matches!(self.inflate, Inflate::Zstd { full: true, .. }) {
            let Some(bytes) = self.next_read().await? else { return self.end() };
            self.compressed = bytes;
        }
        let damaged = |cause: std::io::Error| {
            self.object.damaged(&format!("is damaged, or not compressed as its name says: {cause}"))
        };
        let (taken, inflated) = match &mut self.inflate {
            Inflate::Not => return Ok(Some(std::mem::take(&mut self.compressed))),
            Inflate::Gzip(decoder) => {
                let piece = self.compressed.len().min(GZIP_BYTES);
                decoder.write_all(&self.compressed[..piece]).map_err(damaged)?;
                (piece, std::mem::take(decoder.get_mut()))
            }
            Inflate::Zstd { decoder, between_frames, full } => {
                if std::mem::take(between_frames) {
                    decoder.reinit().map_err(damaged)?;
                }
                let mut inflated = vec![0; INFLATED_BYTES];
                let status =
                    decoder.run_on_buffers(&self.compressed, &mut inflated).map_err(damaged)?;
                *full = status.bytes_written == inflated.len();
                inflated.truncate(status.bytes_written);
                *between_frames = status.remaining == 0;
                (status.bytes_read, inflated)
            }
        };
        let _ = self.compressed.split_to(taken);
        Ok(Some(inflated.into()))
    }

    /// The object's end was reached: nothing may be missing. Gives what was held back.
    fn end(&mut self) -> Result<Option<Bytes>, SourceError> {
        let ended = match &mut self.inflate {
            Inflate::Not | Inflate::Zstd { between_frames: true, .. } => Ok(Vec::new()),
            Inflate::Gzip(decoder) => {
                decoder.try_finish().map(|()| std::mem::take(decoder.get_mut()))
            }
            Inflate::Zstd { .. } => Err(std::io::ErrorKind::UnexpectedEof.into()),
        };
        match ended {
            Ok(rest) => Ok((!rest.is_empty()).then(|| rest.into())),
            Err(cause) => Err(self.object.damaged(&format!("is damaged, or was cut: {cause}"))),
        }
    }

    async fn next_read(&mut self) -> Result<Option<Bytes>, SourceError> {
        let Some(Ahead { range, read }) = self.ahead.take().or_else(|| self.start_read()) else {
            return Ok(None);
        };
        let bytes = read
            .await
            .map_err(|cause| self.object.damaged(&format!("reading it failed: {cause}")))??;
        self.at = range.end;
        self.ahead = self.start_read();
        Ok(Some(bytes))
    }

    fn start_read(&self) -> Option<Ahead> {
        let range = self.at..(self.at + CHUNK_BYTES).min(self.object.bytes);
        if range.is_empty() {
            return None;
        }
        let (object, wanted) = (self.object.clone(), range.clone());
        Some(Ahead { range, read: task::spawn(async move { object.read(wanted).await }) })
    }
}
