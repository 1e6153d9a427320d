//! A job as data: what was declared ([`spec`]), then checked and typed, then cut into stages.

pub mod spec;
