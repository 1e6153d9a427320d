//! Writing table files: sorted entries in, stored files out, cut at borders of key groups.
//!
//! Flushes and compactions write through this. Encoding runs off the runtime's threads.

use std::sync::Arc;

use bytes::Bytes;
use weir_runtime::sim::planted::{Planted, planted};
use weir_runtime::task;

use crate::entry::Entry;
use crate::error::StateError;
use crate::names::{ObjectNamer, OrderNames};
use crate::obsolete::Obsolete;
use crate::store::StateStore;
use crate::table::TableWriter;
use crate::version::{TableHandle, View};

/// Entries that are encoded in one go.
pub(crate) const BATCH_ENTRIES: usize = 4096;

/// Suffix of table files' names.
pub(crate) const TABLE_SUFFIX: &str = "table";

/// For whom files are written. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    pub(crate) store: Arc<StateStore>,
    pub(crate) step: Arc<str>,
    pub(crate) naming: Naming,
    pub(crate) cut: FileCut,
    pub(crate) obsolete: Arc<Obsolete>,
}

/// Where the names of files come from.
#[derive(Clone, Debug)]
pub(crate) enum Naming {
    /// The process's own, without end.
    Own(ObjectNamer),
    /// Those of an order, in order: the one who ordered knows them all.
    Ordered { names: OrderNames, next: u32 },
}

/// How files are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileCut {
    /// Uncompressed size at which a data block is closed.
    pub(crate) block_bytes: usize,
    /// Size at which a file is closed at the next border of key groups.
    pub(crate) table_bytes: usize,
}

/// Files being written. Dropped before its end, the names of what it wrote are obsolete.
#[derive(Debug)]
pub(crate) struct Output {
    writer: Writer,
    open: TableWriter,
    written: Vec<Arc<TableHandle>>,
}

type Entries = std::vec::IntoIter<(Bytes, Entry)>;

impl Output {
    pub(crate) fn new(writer: Writer) -> Self {
        let open = writer.new_table();
        Self { writer, open, written: Vec::new() }
    }

    /// Adds entries, whose keys are after all others.
    pub(crate) async fn add(&mut self, entries: Vec<(Bytes, Entry)>) -> Result<(), StateError> {
        let mut rest = entries.into_iter();
        let table_bytes = self.writer.cut.table_bytes;
        while rest.len() > 0 {
            let mut table = std::mem::replace(&mut self.open, self.writer.new_table());
            let encode = move || {
                let full = fill(&mut table, &mut rest, table_bytes);
                (table, rest, full)
            };
            let (table, unwritten, full) = task::blocking(encode)
                .await
                .map_err(|ended| self.writer.ended("encoding", &ended))?;
            self.open = table;
            rest = unwritten;
            if full {
                self.store_open().await?;
            }
        }
        Ok(())
    }

    /// The files, as views at `level` and `seq`, once all are stored.
    pub(crate) async fn finish(mut self, level: u32, seq: u64) -> Result<Vec<View>, StateError> {
        if !self.open.is_empty() {
            self.store_open().await?;
        }
        let view = |table| View::whole(table, level, seq);
        Ok(self.written.into_iter().map(view).collect())
    }

    async fn store_open(&mut self) -> Result<(), StateError> {
        let table = std::mem::replace(&mut self.open, self.writer.new_table());
        let name = self.writer.next_name()?;
        let finish = move || table.finish(name);
        let finished =
            task::blocking(finish).await.map_err(|ended| self.writer.ended("encoding", &ended))?;
        let store = Arc::clone(&self.writer.store);
        let is_ordered = matches!(self.writer.naming, Naming::Ordered { .. });
        if is_ordered && planted(Planted::CompactedBeforeStored) {
            let handle = TableHandle::written(finished.meta.clone(), &self.writer.obsolete);
            let obsolete = Arc::clone(&self.writer.obsolete);
            task::spawn(async move { store.write_table(finished, &obsolete).await }).detach();
            self.written.push(handle);
            return Ok(());
        }
        self.written.push(store.write_table(finished, &self.writer.obsolete).await?);
        Ok(())
    }
}

impl Writer {
    /// The error of a task that gave no result.
    pub(crate) fn ended(&self, what: &'static str, ended: &task::JoinError) -> StateError {
        StateError::TaskEnded { step: self.step.to_string(), what, reason: ended.to_string() }
    }

    fn new_table(&self) -> TableWriter {
        TableWriter::new(self.cut.block_bytes)
    }

    fn next_name(&mut self) -> Result<String, StateError> {
        match &mut self.naming {
            Naming::Own(namer) => Ok(namer.name(TABLE_SUFFIX)),
            Naming::Ordered { names, next } => {
                let name = names.part(*next);
                *next += 1;
                name.ok_or_else(|| StateError::BadOrder {
                    order: names.to_string(),
                    problem: format!("it needs more than {} files", names.parts_max()),
                })
            }
        }
    }
}

/// Moves entries into the table; true when it must be closed before the next one.
fn fill(table: &mut TableWriter, rest: &mut Entries, table_bytes: usize) -> bool {
    while let Some((key, _)) = rest.as_slice().first() {
        if table.is_full(key, table_bytes) {
            return true;
        }
        if let Some((key, entry)) = rest.next() {
            table.add(&key, &entry);
        }
    }
    false
}
