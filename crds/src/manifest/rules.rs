//! Rules that join several fields of one object, and rules of single texts.
//!
//! The same rules stand as CEL in the types, for an API server; here they are told with names and
//! numbers. `names` of an object holds what is not built yet and what was probably meant, so that
//! a problem already reported is not reported a second time in other words.

use std::collections::BTreeSet;

use super::node::{Content, Cut, Node};
use super::walk::{field, item};
use super::{Problems, later};
use crate::Duration;

/// Characters of a step's id.
const ID_CHARS_MAX: usize = 40;

/// Verbs of a step, built ones first.
const VERBS: [&str; 11] = [
    "source",
    "filter",
    "select",
    "union",
    "aggregate",
    "sink",
    "unnest",
    "dedup",
    "topN",
    "join",
    "process",
];

/// Labels of pods that Weir sets, beside those of weir.dev/.
const OWN_LABELS: [&str; 2] = ["app.kubernetes.io/managed-by", "app.kubernetes.io/component"];

/// An object that was walked.
pub(super) struct Object<'a> {
    pub(super) path: &'a str,
    pub(super) node: &'a Node,
    pub(super) names: &'a BTreeSet<String>,
}

impl Object<'_> {
    fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The duration that the field holds, if it does.
    fn duration(&self, name: &str) -> Option<Duration> {
        self.node.get(name).and_then(duration)
    }

    /// Those of `choices` that are there.
    fn chosen<'a>(&self, choices: &[&'a str]) -> Vec<&'a str> {
        choices.iter().copied().filter(|name| self.has(name)).collect()
    }

    /// Reports unless exactly one of `choices` is there; `what` has one.
    fn exactly_one(&self, what: &str, choices: &[&str], built: usize, problems: &mut Problems) {
        let chosen = self.chosen(choices);
        if chosen.is_empty() {
            let choices = choices[..built].join(", ");
            problems.add(self.path, format!("{what} is missing; write one of: {choices}"));
        } else if chosen.len() > 1 {
            let chosen = chosen.join(" and ");
            problems.add(self.path, format!("{what} has to be exactly one, found {chosen}"));
        }
    }
}

/// Checks an object of a kind.
pub(super) fn check(kind: &str, object: &Object<'_>, problems: &mut Problems) {
    match kind {
        "spec" => width(object, problems),
        "step" => step(object, problems),
        "source" => source(object, problems),
        "files" => files(object, problems),
        "generate" => {
            let kinds = ["keys", "sequence", "nexmark"];
            object.exactly_one("the kind of generated rows", &kinds, 3, problems);
        }
        "sink" => {
            object.exactly_one(
                "the kind of sink",
                &["files", "table", "blackhole", "print", "kafka"],
                4,
                problems,
            );
        }
        "restoreFrom" => {
            let choices = ["snapshotRef", "uri"];
            let chosen = object.chosen(&choices).len();
            // Who takes its own state over need not begin from another one.
            if !object.has("takeOver") || chosen > 1 {
                object.exactly_one("what to begin from", &choices, 2, problems);
            }
            let is_alone = object.has("takeOver") && chosen == 0;
            if (object.has("snapshotRef") || is_alone) && object.has("store") {
                let path = field(object.path, "store");
                problems.add(&path, "stands beside `uri`; a JobSnapshot knows its store");
            }
        }
        "aggregate" => aggregate(object, problems),
        "window" => window(object, problems),
        "hop" => hop(object, problems),
        "compaction" => compaction(object, problems),
        "podMetadata" => own_names(object, problems),
        "discard" => fingerprint(object, problems),
        _ => {}
    }
}

/// replicas × slots is at most the number of key groups.
fn width(object: &Object<'_>, problems: &mut Problems) {
    let number = |node: Option<&Node>, default: u64| match node.filter(|node| !node.is_null()) {
        None => Some(default),
        Some(node) => node.words()?.parse::<u64>().ok(),
    };
    let replicas = number(object.node.get("replicas"), 1);
    let slots = number(object.node.get("slots"), 1);
    let groups = object.node.get("state").and_then(|state| state.get("keyGroups"));
    let (Some(replicas), Some(slots), Some(groups)) = (replicas, slots, number(groups, 128)) else {
        return;
    };
    let width = replicas.saturating_mul(slots);
    let out_of_bounds = ["replicas", "slots", "state"].map(|name| field(object.path, name));
    if width > groups && !out_of_bounds.iter().any(|path| problems.is_unsound(path)) {
        let message = format!(
            "{replicas} replicas × {slots} slots = {width} subtasks are more than the \
             {groups} key groups (state.keyGroups)"
        );
        problems.add(&field(object.path, "replicas"), message);
    }
}

fn step(object: &Object<'_>, problems: &mut Problems) {
    object.exactly_one("the verb", &VERBS, 6, problems);
    if object.has("source") {
        if object.has("from") {
            problems.add(&field(object.path, "from"), "a source reads no step; remove `from`");
        }
        return;
    }
    let union = object.has("union");
    let path = field(object.path, "from");
    let count = object.node.get("from").map(|from| match &from.content {
        Content::List(items) => items.len(),
        _ => 1,
    });
    match count {
        None if !object.has("from") => {
            problems.add(&path, "is missing; name the step that this one reads");
        }
        Some(0) => problems.add(&path, "is empty; name the step that this one reads"),
        Some(1) if union => problems.add(&path, "a union reads at least two steps"),
        Some(2..) if !union && !object.chosen(&VERBS).is_empty() => {
            problems.add(&path, "only a union reads several steps");
        }
        _ => {}
    }
}

fn source(object: &Object<'_>, problems: &mut Problems) {
    object.exactly_one("the kind of source", &["files", "generate", "kafka"], 2, problems);
    let Some(time) = object.node.get("eventTime").filter(|time| !time.is_null()) else { return };
    let column = time.get("column");
    let path = field(&field(object.path, "eventTime"), "column");
    if object.has("generate") && column.is_some() {
        problems.add(&path, "generated rows have their own event time; only `delay` can be set");
    } else if object.has("files") && column.is_none() && matches!(time.content, Content::Map(_)) {
        problems.add(&path, "is missing; name a timestamp column");
    }
}

fn files(object: &Object<'_>, problems: &mut Problems) {
    let words = |name: &str| object.node.get(name).and_then(Node::words);
    let name = words("uri");
    let name = name.map(|uri| uri.strip_suffix(".gz").or(uri.strip_suffix(".zst")).unwrap_or(uri));
    let suffix = name.and_then(|name| name.rsplit_once('.')).map(|(_, suffix)| suffix);
    let format = words("format").or(match suffix {
        Some("ndjson" | "jsonl") => Some("ndjson"),
        other => other,
    });
    let path = field(object.path, "schema");
    match format {
        Some("ndjson") if !object.has("schema") => {
            problems
                .add(&path, later::refusal("ndjson without `schema`") + "; name columns and types");
        }
        Some("csv") if words("format").is_none() => {
            problems.add(&field(object.path, "uri"), later::refusal("`csv`"));
        }
        _ => {}
    }
}

/// What only an aggregate with a window has, and what only one without.
fn aggregate(object: &Object<'_>, problems: &mut Problems) {
    let mut add = |name: &str, message: &str| problems.add(&field(object.path, name), message);
    if object.has("window") {
        if object.has("ttl") {
            let ends = "a window's state ends with the window";
            add("ttl", &format!("{ends}; `ttl` is for aggregates without one"));
        }
        return;
    }
    if object.node.get("emit").and_then(Node::words) == Some("onClose") {
        add("emit", "without a window nothing closes, so the only choice is `onUpdate`");
    }
    if object.duration("lateness").is_some_and(|lateness| lateness > Duration::ZERO) {
        add("lateness", "says how long a window stays, and there is no window");
    }
}

fn window(object: &Object<'_>, problems: &mut Problems) {
    object.exactly_one("the kind of window", &["tumble", "hop", "session"], 3, problems);
    let every = object.node.get("hop").and_then(|hop| hop.get("every")).and_then(duration);
    let Some(step) = object.duration("tumble").or(every) else { return };
    let Some(offset) = object.duration("offset") else { return };
    if offset >= step && step > Duration::ZERO {
        let message = match every {
            None => format!("{offset} is not shorter than the window, {step}"),
            Some(_) => format!("{offset} is not shorter than `every`, {step}"),
        };
        problems.add(&field(object.path, "offset"), message);
    }
}

fn hop(object: &Object<'_>, problems: &mut Problems) {
    let (Some(every), Some(size)) = (object.duration("every"), object.duration("size")) else {
        return;
    };
    if every > size && size > Duration::ZERO {
        let message = format!(
            "{every} is longer than the window, {size}, so that rows between windows would be \
             lost; make it at most `size`"
        );
        problems.add(&field(object.path, "every"), message);
    }
}

fn compaction(object: &Object<'_>, problems: &mut Problems) {
    let number = |name: &str| object.node.get(name)?.words()?.parse::<u32>().ok();
    let least = number("minReplicas").unwrap_or(1);
    if let Some(most) = number("maxReplicas").filter(|most| *most < least) {
        let path = field(object.path, "maxReplicas");
        if !problems.is_unsound(&path) {
            problems.add(&path, format!("{most} is less than minReplicas, {least}"));
        }
    }
}

/// A fingerprint is one that was told.
fn fingerprint(object: &Object<'_>, problems: &mut Problems) {
    let Some(said) = object.node.get("fingerprint").and_then(Node::words) else { return };
    let digits = said.strip_prefix("fp-").unwrap_or_default();
    let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let path = field(object.path, "fingerprint");
    let is_told = digits.len() == 16 && digits.chars().all(is_digit);
    if !is_told && !problems.is_unsound(&path) {
        let message = "is fp- and 16 hexadecimal digits, as the refusal names it";
        problems.add(&path, format!("`{}`: {message}", Cut(said)));
    }
}

/// Labels and annotations by which Weir knows its pods are not the user's.
fn own_names(object: &Object<'_>, problems: &mut Problems) {
    for (map, own) in [("labels", OWN_LABELS.as_slice()), ("annotations", &[])] {
        let entries = object.node.get(map).map(Node::entries).unwrap_or_default();
        for (key, _) in entries {
            if key.text.starts_with("weir.dev/") || own.contains(&key.text.as_str()) {
                let path = field(object.path, map);
                problems.add(&path, format!("{} is Weir's own; take another name", key.text));
            }
        }
    }
}

fn duration(node: &Node) -> Option<Duration> {
    node.words()?.parse().ok()
}

/// What is wrong with an id.
pub(super) fn wrong_id(id: &str) -> Option<String> {
    let sound = id.starts_with(|c: char| c.is_ascii_lowercase())
        && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !sound {
        return Some(format!(
            "`{}` is not an id: a letter, then lower-case letters, digits and _",
            Cut(id)
        ));
    }
    let length = id.len();
    (length > ID_CHARS_MAX)
        .then(|| format!("has {length} characters; an id has at most {ID_CHARS_MAX}"))
}

/// A column stands in a key once.
pub(super) fn columns_differ(list: &Node, path: &str, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (index, column) in list.items().iter().enumerate() {
        if let Some(name) = column.words().filter(|name| !seen.insert(*name)) {
            problems.add(&item(path, index), format!("column `{}` is named twice", Cut(name)));
        }
    }
}

/// What can be said of a URI without looking there.
pub(super) fn uri(uri: &str, path: &str, place: &str, problems: &mut Problems) {
    let scheme = uri.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some("s3" | "file") => {}
        Some(scheme @ ("gs" | "az")) => {
            problems.add(path, later::refusal(&format!("`{scheme}://`")));
        }
        Some(scheme) => {
            let message = format!("`{}://` is no known store; use s3:// or file://", Cut(scheme));
            problems.add(path, message);
        }
        None if place == "spec.state.uri" => {
            let message = "is relative; the state of a job lies below s3:// or file://";
            problems.add(path, message);
        }
        None => {}
    }
}
