"""Other widths by apply, scale and the scale subresource at 5,000 rows a second; a newer target, one that can't be had."""

import json

from harness.operated import Job, started
from harness.scenario import Scenario

DEADLINE_SECONDS = 300
PAUSE_MS_MAX = 3_000


def run(t: Scenario) -> None:
    operator, job = started(t, 600_000, 1)
    job.apply(replicas=4)
    reached(t, job, 1, 4)
    job.scale(2)
    reached(t, job, 4, 2)
    # As a HorizontalPodAutoscaler does.
    scale = json.loads(t.kubectl("get", "sj", job.name, "--subresource=scale", "-o", "json"))
    t.check(scale["status"]["replicas"] == 2 and scale["status"]["selector"], f"scale: {scale}")
    t.until("the selector finds its workers", lambda: selected(t, scale["status"]["selector"]) == job.pods(), 10)
    t.kubectl("patch", "sj", job.name, "--subresource=scale", "--type=merge", "-p", '{"spec":{"replicas":3}}')
    job.spec["replicas"] = 3
    reached(t, job, 2, 3)
    t.check(job.status().get("restarts", 0) == 0, f"restarts: {job.status()}")

    newer_target(t, job)
    cannot_be_had(t, job)
    job.finish()
    operator.check_rights()


def selected(t: Scenario, selector: str) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in t.pods(selector) if "deletionTimestamp" not in pod["metadata"])


def reached(t: Scenario, job: Job, before: int, after: int) -> None:
    job.settled(after)
    last = job.status()["lastRescale"]
    t.check((last["from"]["replicas"], last["to"]["replicas"]) == (before, after), f"lastRescale: {last}")
    t.check(last.get("pauseMs", PAUSE_MS_MAX) < PAUSE_MS_MAX and "cutWaitMs" in last, f"lastRescale: {last}")
    t.say(f"{before} to {after}: pause {last['pauseMs']} ms, cut wait {last['cutWaitMs']} ms")


def newer_target(t: Scenario, job: Job) -> None:
    before = set(job.pods())
    job.scale(6)
    t.until("new pods are there", lambda: len(job.pods()) > 3, 30)
    job.scale(2)
    job.settled(2)
    t.check(set(job.pods()) <= before, f"{before} became {job.pods()}: workers that could stay were replaced")
    t.say("a newer target replaced the one under way")


def cannot_be_had(t: Scenario, job: Job) -> None:
    """Pods that no node can take: the job runs on, says why, and the next commit is all it needs."""
    workers, generation = job.pods(), job.generation()
    resources = job.spec["worker"]["resources"]
    job.apply(replicas=3, rescale={"deadline": "10s"}, worker={"resources": {"requests": {"cpu": "1000", "memory": "64Mi"}}})
    said = job.says("PodsNotStarting")
    t.contains(said, "cannot be scheduled", "Insufficient cpu")
    t.check(job.condition("Reconciling").get("status") == "True", f"{job.status()}")
    job.goes_on()
    t.contains(job.says("DeadlineExceeded", "Stalled", 30), "cannot be scheduled")
    t.check(job.condition("Stalled").get("status") == "True", f"{job.status()}")
    job.goes_on()
    t.check(set(workers) <= set(job.pods()) and job.generation() == generation, "the job did not go on as it was")
    job.apply(replicas=3, worker={"resources": resources})
    job.settled(3)
    t.check(set(workers) <= set(job.pods()), f"{workers} became {job.pods()}: back in their form they could stay")
