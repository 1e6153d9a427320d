//! The coordinator: one task that owns a running job.

pub mod status;
