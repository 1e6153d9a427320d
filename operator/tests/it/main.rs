//! The binary as its users run it: exit codes, messages, folders, `kill -9`; and the house's rules.

mod bad_input;
mod command;
mod crash;
mod flights;
mod kill;
mod leftovers;
mod rerun;
mod support;
mod tidy;
