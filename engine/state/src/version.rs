//! A version: the list of views that is a shard's content. Pure values; metadata only.

pub mod record;
