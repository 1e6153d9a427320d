//! The binary as its users run it: exit codes, messages, folders, `kill -9`; and the house's rules.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod bad_input;
mod bids;
mod collect;
mod command;
mod compaction;
mod failover;
mod flights;
mod init;
mod kill;
mod leftovers;
mod owners;
mod plan;
mod pod;
mod rerun;
mod rescale;
mod restore;
mod rows;
mod suspend;
mod table;
mod tidy;
mod upgrade;
mod wordcount;
