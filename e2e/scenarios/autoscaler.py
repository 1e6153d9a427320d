"""A real HorizontalPodAutoscaler owns `replicas`: it widens and narrows the job, each row once, and every sync from git leaves it alone."""

import json

from harness.metrics import Metrics
from harness.operated import Job, Operator
from harness.scenario import Scenario

DEADLINE_SECONDS = 240
METRIC = "rows-waiting"
ROWS_A_WORKER = 100
SYNC = ("--server-side", "--field-manager=sync")
# It looks every few seconds, and waits as long again before it acts on what a new width shows.
SCALED_SECONDS_MAX = 60

AUTOSCALER = {
    "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "counts"}, "spec": {
        "scaleTargetRef": {"apiVersion": "weir.dev/v1alpha1", "kind": "StatefulJob", "name": "counts"},
        "minReplicas": 1, "maxReplicas": 4,
        "metrics": [{"type": "External", "external": {
            "metric": {"name": METRIC}, "target": {"type": "AverageValue", "averageValue": str(ROWS_A_WORKER)}}}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}}


def run(t: Scenario) -> None:
    t.secret()
    operator = Operator(t)
    job = Job(t, 400_000, rate=2_000)
    del job.spec["replicas"]   # it is not in git
    sync(t, job)
    job.settled(1)
    metrics = Metrics(t)
    metrics.values[METRIC] = ROWS_A_WORKER
    t.apply(AUTOSCALER)
    t.until("the autoscaler is able to scale", lambda: told(t, "ScalingActive") == "True", SCALED_SECONDS_MAX)
    t.check(t.get("sj", job.name)["spec"]["replicas"] == 1, "it was scaled with no need")

    reach(t, job, metrics, 3)
    sync(t, job)
    assert_width(t, job, 3)
    # A commit that changes something else.
    job.spec["checkpoint"] = {"interval": "2s"}
    sync(t, job)
    job.settled(3)
    assert_width(t, job, 3)
    reach(t, job, metrics, 1)
    sync(t, job)
    assert_width(t, job, 1)
    t.check("f:pipeline" in synced(t) and "f:replicas" not in synced(t), f"what is synced: {synced(t)}")

    # As wide as it may be, whatever is asked for.
    reach(t, job, metrics, 4, 40 * ROWS_A_WORKER)
    t.kubectl("delete", "hpa", "counts")
    sync(t, job)
    assert_width(t, job, 4)
    t.check(job.status().get("restarts", 0) == 0, f"restarts: {job.status()}")
    job.rate = 0
    sync(t, job)
    t.until("it has finished", lambda: job.phase() == "Finished", 120)
    job.assert_output()
    operator.check_rights()


def sync(t: Scenario, job: Job) -> None:
    """What git has: everything but `replicas`."""
    text = json.dumps(job.manifest())
    t.kubectl("apply", *SYNC, "-f", "-", text=text)
    t.kubectl("diff", *SYNC, "-f", "-", text=text)


def reach(t: Scenario, job: Job, metrics: Metrics, replicas: int, value: int | None = None) -> None:
    asked = metrics.asked
    metrics.values[METRIC] = value or replicas * ROWS_A_WORKER
    t.until(f"the autoscaler wants {replicas}", lambda: t.get("sj", job.name)["spec"]["replicas"] == replicas, SCALED_SECONDS_MAX)
    job.settled(replicas)
    t.check(metrics.asked > asked, "nobody asked for the metric")
    seen = t.get("hpa", "counts")["status"]
    t.check(seen.get("desiredReplicas") == replicas, f"the autoscaler: {seen}")


def assert_width(t: Scenario, job: Job, replicas: int) -> None:
    spec = t.get("sj", job.name)["spec"]
    t.check(spec["replicas"] == replicas == len(job.pods()), f"{spec['replicas']} replicas, pods {job.pods()}: a sync changed them")


def told(t: Scenario, kind: str) -> str:
    found = (t.get("hpa", "counts") or {}).get("status", {}).get("conditions", [])
    return next((one["status"] for one in found if one["type"] == kind), "")


def synced(t: Scenario) -> set[str]:
    """The fields that are the sync's, as the API server keeps them."""
    found = t.get("sj", "counts")["metadata"]["managedFields"]
    return {field for one in found if one["manager"] == "sync" for field in one["fieldsV1"].get("f:spec", {})}
