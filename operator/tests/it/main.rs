//! Tests of the whole project and of the binary as a user meets it.

mod tidy;
