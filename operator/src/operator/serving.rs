//! The label of pods that take part, so that an autoscaler counts neither those that are about to
//! come in nor those that are about to go. Shown, and never decided from.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use weir_runtime::clock::{self, Instant};

use super::api::is_gone;
use super::names;
use super::pods::PodFacts;

/// Pause after a label that could not be written.
const PAUSE: Duration = Duration::from_secs(30);

/// Writes labels.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    not_before: Option<Instant>,
    /// Written, and perhaps not seen yet: by uid.
    written: BTreeMap<String, bool>,
}

impl Labels {
    /// Makes the pods of these incarnations the ones that are labelled. Safe to repeat.
    pub(crate) async fn apply(
        &mut self,
        api: &Api<Pod>,
        pods: &BTreeMap<String, PodFacts>,
        serving: &BTreeSet<String>,
    ) {
        let is_there = |uid: &String| pods.values().any(|pod| pod.uid == *uid);
        self.written.retain(|uid, _| is_there(uid));
        self.not_before.take_if(|until| clock::now() >= *until);
        if self.not_before.is_some() {
            return;
        }
        for (pod, is_serving) in changes(pods, serving) {
            if self.written.get(&pod.uid) == Some(&is_serving) {
                continue;
            }
            let label = is_serving.then_some("true");
            let patch = json!({"metadata": {"uid": pod.uid, "labels": {names::SERVING: label}}});
            let patch = Patch::Merge(patch);
            match api.patch_metadata(&pod.name, &PatchParams::default(), &patch).await {
                Ok(_) => {
                    self.written.insert(pod.uid.clone(), is_serving);
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    tracing::warn!(pod = pod.name, "cannot be labelled: {error}");
                    self.not_before = Some(clock::now() + PAUSE);
                    return;
                }
            }
        }
    }
}

/// Whose label is wrong, and what is right.
fn changes<'a>(
    pods: &'a BTreeMap<String, PodFacts>,
    serving: &BTreeSet<String>,
) -> impl Iterator<Item = (&'a PodFacts, bool)> {
    let wanted =
        |pod: &PodFacts| pod.end.is_none() && !pod.is_ending && serving.contains(&pod.incarnation);
    let wrong =
        move |pod: &'a PodFacts| (pod.is_serving != wanted(pod)).then_some((pod, !pod.is_serving));
    pods.values().filter_map(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ProcessRole;

    fn pod(incarnation: &str, is_serving: bool, is_ending: bool) -> PodFacts {
        PodFacts {
            name: format!("j-{incarnation}"),
            uid: incarnation.to_owned(),
            role: ProcessRole::Worker,
            ordinal: 0,
            incarnation: incarnation.to_owned(),
            template: "t".to_owned(),
            address: None,
            is_ready: true,
            is_serving,
            is_ending,
            end: None,
            trouble: None,
        }
    }

    #[test]
    fn pods_that_take_part_are_labelled_and_others_not() {
        let pods = [
            pod("stays", true, false),
            pod("new", false, false),
            pod("warm", false, false),
            pod("left", true, false),
            pod("ends", true, true),
        ];
        let pods: BTreeMap<_, _> = pods.into_iter().map(|pod| (pod.name.clone(), pod)).collect();
        let serving = ["stays", "new", "ends"].map(str::to_owned).into();
        let found: Vec<_> =
            changes(&pods, &serving).map(|(pod, is)| (pod.uid.as_str(), is)).collect();
        assert_eq!(found, [("ends", false), ("left", false), ("new", true)]);
    }
}
