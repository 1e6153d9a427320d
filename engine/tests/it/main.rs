//! Tests of the engine from outside: one binary for all of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod sim;
mod teeth;
mod worker;
