//! Tests of the engine from outside: one binary for all of them.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod worker;
