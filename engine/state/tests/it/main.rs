//! Tests of the state store and the journal from outside.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod clean_up;
mod collect;
mod journal;
mod journal_sim;
mod objects;
mod s3_stub;
mod store_compactor;
mod store_damage;
mod store_model;
mod store_real;
mod store_scale;
mod store_sim;
mod store_world;
