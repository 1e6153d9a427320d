//! Tests of the engine from outside: one binary for all of them.

mod sim;
mod worker;
