//! How steps read each other: unique ids, only steps above, none unread, at least one sink.

use std::collections::{BTreeMap, BTreeSet};

use super::Problems;
use super::node::{Content, Cut, Node};
use super::walk::{did_you_mean, field, item, not_a_text, step_names};

const PIPELINE: &str = "spec.pipeline";
const NEXMARK_STREAMS: [&str; 3] = ["bid", "auction", "person"];

/// Checks the pipeline of `spec`; gives for each step the indices of those it reads.
pub(super) fn check(spec: &Node, problems: &mut Problems) -> Vec<Vec<usize>> {
    let steps = spec.get("pipeline").map_or(&[][..], Node::items);
    let names: Vec<BTreeSet<String>> = steps.iter().map(step_names).collect();
    let by_id = ids(steps, problems);
    let mut inputs = Vec::new();
    let mut read = BTreeSet::new();
    for (index, step) in steps.iter().enumerate() {
        let (mut reads, mut written) = (Vec::new(), Vec::new());
        for (path, id) in references(index, step) {
            let found = resolve(&id, index, &by_id, &names).and_then(|input| {
                stream(&id, &steps[input])
                    .map_err(|message| Wrong { message, meant: Some(input) })?;
                Ok(input)
            });
            read.extend(
                found.as_ref().ok().copied().or(found.as_ref().err().and_then(|e| e.meant)),
            );
            match found {
                Ok(_) if written.contains(&id) => {
                    problems.add(&path, format!("step `{}` is read twice", Cut(&id)));
                }
                Ok(input) => {
                    reads.push(input);
                    written.push(id);
                }
                Err(wrong) => problems.add(&path, wrong.message),
            }
        }
        inputs.push(reads);
    }
    unread(steps, &names, &read, problems);
    if !steps.is_empty() && !names.iter().any(|names| names.contains("sink")) {
        problems.note(PIPELINE, "there is no sink; without one nothing is written");
    }
    inputs
}

fn id_of(step: &Node) -> Option<&str> {
    step.get("id").and_then(Node::words).filter(|id| !id.is_empty())
}

/// Steps by id; reports those that come twice.
fn ids<'a>(steps: &'a [Node], problems: &mut Problems) -> BTreeMap<&'a str, usize> {
    let mut by_id = BTreeMap::new();
    for (index, step) in steps.iter().enumerate() {
        let Some(id) = id_of(step) else { continue };
        match by_id.get(id) {
            Some(first) => {
                let path = field(&item(PIPELINE, index), "id");
                let first = item(PIPELINE, *first);
                problems.add(&path, format!("`{}` is already the id of {first}", Cut(id)));
            }
            None => {
                by_id.insert(id, index);
            }
        }
    }
    by_id
}

/// The ids in `from`, each with its path.
fn references(index: usize, step: &Node) -> Vec<(String, String)> {
    let path = field(&item(PIPELINE, index), "from");
    let Some(from) = step.get("from") else { return Vec::new() };
    let one = |path: String, node: &Node| {
        let id = node.words().filter(|_| not_a_text(node).is_none())?;
        Some((path, id.to_owned()))
    };
    match &from.content {
        Content::List(items) => items
            .iter()
            .enumerate()
            .filter_map(|(index, node)| one(item(&path, index), node))
            .collect(),
        _ => one(path, from).into_iter().collect(),
    }
}

/// A reference that cannot stand.
struct Wrong {
    message: String,
    /// The step that was probably meant; it counts as read.
    meant: Option<usize>,
}

fn resolve(
    id: &str,
    reader: usize,
    by_id: &BTreeMap<&str, usize>,
    names: &[BTreeSet<String>],
) -> Result<usize, Wrong> {
    // A stream of a source: its source is what is read. No id has a point.
    let source = id.split_once('.').map_or(id, |(source, _)| source);
    let wrong = |message: String, meant| Err(Wrong { message, meant });
    match by_id.get(source) {
        Some(index) if *index == reader => {
            wrong(format!("step `{}` reads itself", Cut(id)), Some(*index))
        }
        Some(index) if *index > reader => wrong(
            format!("step `{}` is below; a step reads only steps above it", Cut(id)),
            Some(*index),
        ),
        Some(index) if names[*index].contains("sink") => {
            wrong(format!("step `{}` is a sink; nothing comes out of it", Cut(id)), Some(*index))
        }
        Some(index) => Ok(*index),
        None => {
            let above = by_id.iter().filter(|(_, index)| **index < reader).map(|(id, _)| *id);
            let meant = did_you_mean(source, above);
            let hint = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
            wrong(format!("there is no step `{}`{hint}", Cut(id)), meant.map(|meant| by_id[meant]))
        }
    }
}

/// Errors: `id` names no stream of the step, or none where there are several.
fn stream(id: &str, step: &Node) -> Result<(), String> {
    let generate = step.get("source").and_then(|source| source.get("generate"));
    let several = generate.is_some_and(|generate| generate.get("nexmark").is_some());
    let (source, stream) = match id.split_once('.') {
        Some((source, stream)) => (source, Some(stream)),
        None => (id, None),
    };
    let list = || NEXMARK_STREAMS.map(|name| format!("`{}.{name}`", Cut(source))).join(", ");
    match stream {
        None if several => {
            Err(format!("step `{}` gives several streams; read one of {}", Cut(source), list()))
        }
        Some(_) if !several => {
            Err(format!("step `{}` gives one stream; read it as `{}`", Cut(source), Cut(source)))
        }
        Some(stream) if !NEXMARK_STREAMS.contains(&stream) => {
            let hint = match did_you_mean(stream, NEXMARK_STREAMS.into_iter()) {
                Some(meant) => format!("did you mean `{}.{meant}`?", Cut(source)),
                None => format!("it has {}", list()),
            };
            Err(format!("step `{}` has no stream `{}`; {hint}", Cut(source), Cut(stream)))
        }
        _ => Ok(()),
    }
}

fn unread(
    steps: &[Node],
    names: &[BTreeSet<String>],
    read: &BTreeSet<usize>,
    problems: &mut Problems,
) {
    for (index, step) in steps.iter().enumerate() {
        if let Some(id) = id_of(step)
            && !names[index].contains("sink")
            && !read.contains(&index)
        {
            let message = format!("nobody reads step `{}`; read it or remove it", Cut(id));
            problems.note(&item(PIPELINE, index), message);
        }
    }
}
