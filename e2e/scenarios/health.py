"""What kstatus and Argo CD make of each row of the table in docs/design/0014-operator.md, by the real library and Lua."""

import json

from harness import shell
from harness.scenario import Scenario
from harness.shell import ROOT

DEADLINE_SECONDS = 60
ARGOCD = ROOT / "gitops/argocd"
ACTIONS = ARGOCD / "weir.dev/StatefulJob/actions"

# Phase and suspend of a job, and what can be asked of it then.
OFFERED = [
    (None, False, "suspend"),
    ("Running", False, "checkpoint-now restart suspend"),
    ("Recovering", False, "checkpoint-now restart suspend"),
    ("Suspended", True, "resume"),
    ("Failed", False, "restart"),
    ("Finished", False, "restart"),
    ("Deleting", False, ""),
]


def run(t: Scenario) -> None:
    said = shell.run("healthcheck", "cases", ARGOCD, text=(ARGOCD / "cases.yaml").read_text()).stdout
    t.say(f"kstatus and Argo CD: {said.strip()}")

    for phase, suspend, expected in OFFERED:
        offered = shell.run("healthcheck", "actions", ACTIONS, text=job(phase, suspend)).stdout.strip()
        t.check(offered == expected, f"{phase}, suspend {suspend}: offered are {offered!r}, not {expected!r}")
    for action, where, value in [("suspend", "suspend", True), ("resume", "suspend", False)]:
        after = json.loads(shell.run("healthcheck", "action", ACTIONS / action / "action.lua", text=job("Running", False)).stdout)
        t.check(after["spec"][where] is value and after["spec"]["replicas"] == 2, f"{action}: {after['spec']}")
    for action, annotation in [("restart", "weir.dev/restart"), ("checkpoint-now", "weir.dev/checkpoint")]:
        after = json.loads(shell.run("healthcheck", "action", ACTIONS / action / "action.lua", text=job("Running", False)).stdout)
        t.check(after["metadata"]["annotations"][annotation].endswith("Z"), f"{action}: {after['metadata']}")
        t.check(after["spec"] == {"replicas": 2, "suspend": False}, f"{action} changes the spec: {after['spec']}")
    t.say(f"{len(OFFERED)} sets of actions, and what each of the four does")

    # The real API server takes the ConfigMap, and it holds the scripts as they are.
    stored = json.loads(t.kubectl("create", "--dry-run=client", "-o", "json", "-f", ARGOCD / "argocd-cm.yaml", namespace=False))["data"]
    for kind in ("StatefulJob", "JobSnapshot"):
        script = (ARGOCD / f"weir.dev/{kind}/health.lua").read_text()
        t.check(stored[f"resource.customizations.health.weir.dev_{kind}"] == script, f"the ConfigMap has another script for {kind}")
    t.check("name: checkpoint-now" in stored["resource.customizations.actions.weir.dev_StatefulJob"], f"actions: {stored}")
    t.say("argocd-cm.yaml holds the scripts")


def job(phase: str | None, suspend: bool) -> str:
    status = {"phase": phase} if phase else {}
    return json.dumps({"apiVersion": "weir.dev/v1alpha1", "kind": "StatefulJob", "metadata": {"name": "j", "generation": 1},
                       "spec": {"replicas": 2, "suspend": suspend}, "status": status})
