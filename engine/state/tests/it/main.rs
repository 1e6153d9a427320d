//! Tests of the state store and the journal from outside.

mod journal_sim;
