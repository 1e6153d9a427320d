//! What the public form has and is not built yet: refused with that word, never as unknown.
//!
//! An entry goes when its field comes into the types.

use super::node::Node;

/// Field names that are not built yet in the object at `place`, a path without indices.
pub(super) fn fields(place: &str) -> &'static [&'static str] {
    match place {
        "spec" => &["image", "args", "sql"],
        "spec.upgrade" => &["mode"],
        "spec.state" => &["disk"],
        "spec.pipeline[]" => &["unnest", "dedup", "topN", "join", "process"],
        "spec.pipeline[].source" => &["kafka"],
        "spec.pipeline[].source.files" => &["csv", "follow"],
        "spec.pipeline[].source.eventTime" => &["idleAfter", "maxAhead"],
        "spec.pipeline[].aggregate" => &["deadLetter", "lateRows", "lateDeadLetter"],
        "spec.pipeline[].sink" => &["kafka"],
        "spec.pipeline[].sink.files" => &[
            "roll",
            "columns",
            "compression",
            "partition",
            "partitions",
            "partitionBy",
            "partitioning",
            "partitionedBy",
        ],
        _ => &[],
    }
}

/// The built field for which one of `fields` stands in, so that it is not missed.
pub(super) fn stands_in_for(field: &str) -> Option<&'static str> {
    match field {
        "image" | "sql" => Some("pipeline"),
        _ => None,
    }
}

/// Whether a value of the field at `place` is one of those that are not built yet.
pub(super) fn is_value(place: &str, node: &Node) -> bool {
    let values: &[&str] = match place {
        "spec.pipeline[].source.files.format" => &["csv"],
        "spec.pipeline[].source.files.onError" => &["skip", "deadLetter"],
        "spec.pipeline[].sink.files.format" | "spec.pipeline[].sink.table.format" => &["csv"],
        _ => &[],
    };
    let named = node.words().or_else(|| node.entries().first().map(|(key, _)| key.text.as_str()));
    named.is_some_and(|name| values.contains(&name))
}

/// The sentence of refusal.
pub(super) fn refusal(what: &str) -> String {
    format!("{what} is not built yet; it comes later")
}
