//! What a changed pipeline may cost.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What a changed pipeline may cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeSpec {
    /// States that are given up if they do not fit the pipeline any more, as the refusal names them. Each
    /// holds once; what was used, or fits, has no effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub discard: Vec<DiscardSpec>,
}

/// The state of a step that may be given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-weir" = "discard"))]
pub struct DiscardSpec {
    /// The step.
    #[schemars(length(min = 1, max = 40))]
    pub step: String,

    /// Which state of it, as the refusal names it.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^fp-[0-9a-f]{16}$')")
        .message("fingerprint is fp- and 16 hexadecimal digits, as the refusal names it"))]
    pub fingerprint: String,
}
