//! State that a changed pipeline can't take up, and the user's word that it may go. Pure.
//!
//! A step whose state does not fit is refused with the line that gives its state up: `upgrade: {discard:
//! [{step, fingerprint}]}`. The fingerprint is of the run, of what the state means, and of the last time
//! that the step's state was given up; so a line that stays in the manifest holds once.
//! docs/design/0017-upgrades.md.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use weir_state::ids::CheckpointId;
use weir_state::journal::JobState;
use weir_state::journal::record::{Discarded, Plan};
use xxhash_rust::xxh3::xxh3_64;

use crate::pipeline::checked::CheckedJob;
use crate::pipeline::spec::{Emit, StepSpec, Verb};

/// The state of a step that may be given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discard {
    /// The step.
    pub step: String,
    /// What the refusal named.
    pub fingerprint: String,
}

/// What tells a step's present state from any other.
pub(super) fn fingerprint(run: &str, step: &str, signature: &[u8], last_discarded: u64) -> String {
    let text = [run.as_bytes(), step.as_bytes(), &last_discarded.to_be_bytes(), signature];
    format!("fp-{:016x}", xxh3_64(&text.join(&0)))
}

/// What to paste into `spec`, so that the state of these steps is given up.
pub(super) fn line<'a>(steps: impl Iterator<Item = (&'a str, String)>) -> String {
    let item = |(step, fingerprint): (&str, String)| {
        format!("{{step: {}, fingerprint: {fingerprint}}}", plain(step))
    };
    let items: Vec<String> = steps.map(item).collect();
    format!("upgrade: {{discard: [{}]}}", items.join(", "))
}

/// An id as YAML takes it for a text, of each version.
fn plain(id: &str) -> String {
    const WORDS: [&str; 10] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"];
    let begins = id.starts_with(|c: char| c.is_ascii_alphabetic());
    if begins && !WORDS.contains(&id.to_ascii_lowercase().as_str()) {
        return id.to_owned();
    }
    format!("\"{id}\"")
}

/// A step, as far as state and revisions are concerned.
struct Node<'a> {
    id: &'a str,
    inputs: Vec<usize>,
    has_state: bool,
    /// Its rows may be revised.
    revises: bool,
}

/// Pairs of steps with state of which the second folds what the first one revises, so that neither can
/// lose its state alone: the second would be told of rows that it does not have, or has already.
pub(super) fn bound(
    before: &[StepSpec],
    has_state: impl Fn(&str) -> bool,
    now: &CheckedJob,
) -> BTreeSet<(String, String)> {
    let index = |id: &String| before.iter().position(|step| step.id == *id);
    let mut recorded: Vec<Node<'_>> = Vec::new();
    for step in before {
        let inputs: Vec<usize> = step.from.iter().filter_map(index).collect();
        let revises = match &step.verb {
            Verb::Source(_) => false,
            Verb::Aggregate(its) => its.window.is_none() || its.emit == Some(Emit::OnUpdate),
            _ => inputs.iter().any(|input| recorded.get(*input).is_some_and(|its| its.revises)),
        };
        recorded.push(Node { id: &step.id, inputs, has_state: has_state(&step.id), revises });
    }
    let checked: Vec<Node<'_>> = now
        .steps
        .iter()
        .map(|step| Node {
            id: &step.id,
            inputs: step.inputs.clone(),
            has_state: step.signature.is_some(),
            revises: step.changelog,
        })
        .collect();
    pairs(&recorded).into_iter().chain(pairs(&checked)).collect()
}

fn pairs(nodes: &[Node<'_>]) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for node in nodes.iter().filter(|node| node.has_state) {
        let mut above = node.inputs.clone();
        while let Some(input) = above.pop().and_then(|input| nodes.get(input)) {
            match input.has_state {
                _ if !input.revises => {}
                true => {
                    found.insert((input.id.to_owned(), node.id.to_owned()));
                }
                false => above.extend(&input.inputs),
            }
        }
    }
    found
}

/// `lost` and all that is bound to it, each with the step that it is bound to; only steps of `all` have
/// state to lose.
pub(super) fn with_bound(
    lost: &BTreeSet<String>,
    bound: &BTreeSet<(String, String)>,
    all: &BTreeMap<String, Bytes>,
) -> BTreeMap<String, String> {
    let mut more: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let goes = |step: &String| lost.contains(step) || more.contains_key(step);
        let both = bound.iter().flat_map(|(one, two)| [(one, two), (two, one)]);
        let next = both.filter(|(one, two)| goes(one) && !goes(two) && all.contains_key(*two));
        let next: Vec<(String, String)> =
            next.map(|(one, two)| (two.clone(), one.clone())).collect();
        if next.is_empty() {
            return more;
        }
        more.extend(next);
    }
}

/// What the next `Plan` record says of state that was given up: what the last one said, and `steps`. What
/// no held checkpoint has any more is left out, but for the last of each step: it makes the next
/// fingerprint another one.
pub(super) fn discarded(state: &JobState, steps: &BTreeSet<String>) -> Vec<Discarded> {
    let nothing = Plan::default();
    let plan = state.plan.as_deref().unwrap_or(&nothing);
    let mut all = plan.discarded.clone();
    if steps.is_empty() {
        return all;
    }
    let through = state.last_checkpoint().map_or(0, |last| last.id.0);
    let given_up = plan.signatures.iter().filter(|signed| steps.contains(&signed.step));
    all.extend(given_up.map(|signed| Discarded {
        step: signed.step.clone(),
        through,
        signature: signed.bytes.clone(),
    }));
    let oldest = state.checkpoints.keys().next().map_or(u64::MAX, |id| id.0);
    let last: BTreeMap<String, usize> =
        all.iter().enumerate().map(|(index, its)| (its.step.clone(), index)).collect();
    let is_needed = |(index, its): &(usize, Discarded)| {
        its.through >= oldest || last.get(&its.step) == Some(index)
    };
    all.into_iter().enumerate().filter(is_needed).map(|(_, its)| its).collect()
}

/// What the state of each step means in a checkpoint, and when it was last given up before that.
pub(super) fn meanings(
    plan: &Plan,
    checkpoint: Option<CheckpointId>,
) -> (BTreeMap<String, Bytes>, BTreeMap<String, u64>) {
    let signed = plan.signatures.iter();
    let mut signatures: BTreeMap<String, Bytes> =
        signed.map(|its| (its.step.clone(), its.bytes.clone())).collect();
    let mut last = BTreeMap::new();
    let is_later = |its: &&Discarded| checkpoint.is_some_and(|id| its.through >= id.0);
    for its in plan.discarded.iter().rev().filter(is_later) {
        signatures.insert(its.step.clone(), its.signature.clone());
    }
    for its in plan.discarded.iter().filter(|its| !is_later(its)) {
        last.insert(its.step.clone(), its.through);
    }
    (signatures, last)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weir_state::journal::CheckpointState;
    use weir_state::journal::record::StepBytes;

    use super::*;

    fn names(steps: &[&str]) -> BTreeSet<String> {
        steps.iter().map(|step| (*step).to_owned()).collect()
    }

    fn signed(step: &str, bytes: &'static str) -> StepBytes {
        StepBytes { step: step.to_owned(), bytes: bytes.into() }
    }

    fn given_up(step: &str, through: u64, signature: &'static str) -> Discarded {
        Discarded { step: step.to_owned(), through, signature: signature.into() }
    }

    /// A job whose checkpoints from `oldest` to `last` are held.
    fn job(plan: Plan, oldest: u64, last: u64) -> JobState {
        let ids = || (oldest..=last).map(CheckpointId);
        let checkpoint = |id| Arc::new(CheckpointState { id, ..CheckpointState::default() });
        JobState {
            plan: Some(plan.into()),
            checkpoints: ids().map(|id| (id, checkpoint(id))).collect(),
            retained: ids().collect(),
            ..JobState::default()
        }
    }

    #[test]
    fn a_fingerprint_is_of_one_state_and_no_text_that_yaml_takes_for_a_number() {
        let one = fingerprint("run", "a", b"minutes", 0);
        assert_eq!(one, fingerprint("run", "a", b"minutes", 0));
        assert_eq!((one.len(), &one[..3]), (19, "fp-"));
        let others = [
            fingerprint("nur", "a", b"minutes", 0),
            fingerprint("run", "b", b"minutes", 0),
            fingerprint("run", "a", b"hours", 0),
            fingerprint("run", "a", b"minutes", 7),
        ];
        assert!(!others.contains(&one));
    }

    #[test]
    fn the_line_is_yaml() {
        let steps = [("sums", "fp-1".to_owned()), ("no", "fp-2".to_owned())];
        let line = line(steps.into_iter());
        let expected = "upgrade: {discard: [{step: sums, fingerprint: fp-1}, {step: \"no\", \
                        fingerprint: fp-2}]}";
        assert_eq!(line, expected);
        assert_eq!(plain("9a"), "\"9a\"");
    }

    #[test]
    fn what_folds_revisions_goes_with_what_makes_them_and_with_nothing_else() {
        let bound = BTreeSet::from([
            ("a".to_owned(), "b".to_owned()),
            ("b".to_owned(), "c".to_owned()),
            ("c".to_owned(), "new".to_owned()),
            ("x".to_owned(), "y".to_owned()),
        ]);
        let all =
            |steps: &[&str]| steps.iter().map(|its| ((*its).to_owned(), Bytes::new())).collect();
        let more = with_bound(&names(&["b"]), &bound, &all(&["a", "b", "c", "x", "y"]));
        let expected = [("a", "b"), ("c", "b")].map(|(one, two)| (one.to_owned(), two.to_owned()));
        assert_eq!(more, BTreeMap::from(expected), "a new step has nothing to lose");
        assert!(with_bound(&names(&["z"]), &bound, &all(&["a", "b"])).is_empty());
    }

    #[test]
    fn pairs_are_found_through_steps_without_state_and_not_across_closed_windows() {
        let node = |id, inputs: &[usize], has_state, revises| Node {
            id,
            inputs: inputs.to_vec(),
            has_state,
            revises,
        };
        let nodes = [
            node("source", &[], false, false),
            node("sums", &[0], true, true),
            node("kept", &[1], false, true),
            node("table", &[2], true, true),
            node("closed", &[0], true, false),
            node("again", &[4], true, true),
        ];
        let found = pairs(&nodes);
        assert_eq!(found, BTreeSet::from([("sums".to_owned(), "table".to_owned())]));
    }

    #[test]
    fn what_was_given_up_is_known_for_as_long_as_a_checkpoint_has_it() {
        let signatures = vec![signed("a", "three"), signed("b", "one")];
        let before =
            vec![given_up("a", 3, "one"), given_up("a", 5, "two"), given_up("gone", 2, "g")];
        let plan = Plan { signatures, discarded: before.clone(), ..Plan::default() };
        assert_eq!(discarded(&job(plan.clone(), 1, 8), &BTreeSet::new()), before);
        let next = discarded(&job(plan.clone(), 4, 8), &names(&["a"]));
        let expected =
            [given_up("a", 5, "two"), given_up("gone", 2, "g"), given_up("a", 8, "three")];
        assert_eq!(next, expected, "nothing held is as old as checkpoint 3");

        let means = |checkpoint: Option<u64>| {
            let (signatures, last) = meanings(&plan, checkpoint.map(CheckpointId));
            let of = |step: &str| signatures.get(step).cloned().unwrap_or_default();
            (of("a"), of("gone"), last.get("a").copied())
        };
        let is =
            |a: &'static str, gone: &'static str, last| (Bytes::from(a), Bytes::from(gone), last);
        assert_eq!(means(None), is("three", "", Some(5)));
        assert_eq!(means(Some(6)), is("three", "", Some(5)));
        assert_eq!(means(Some(5)), is("two", "", Some(3)));
        assert_eq!(means(Some(3)), is("one", "", None));
        assert_eq!(means(Some(2)), is("one", "g", None));
    }
}
