"""Workers deleted, evicted, drained, killed, stopped, all at once; S3 away for 30 s; a bad row, and its cure."""

import json
import time

from harness.operated import Job, started, unchanged
from harness.scenario import Scenario

DEADLINE_SECONDS = 300
RECOVERED_SECONDS_MAX = 30
S3_AWAY_SECONDS = 30
BAD = 70_000


def run(t: Scenario) -> None:
    operator, job = started(t, 500_000, 4, rate=2_500)

    lose(t, job, "deleted", lambda pod: t.kubectl("delete", "pod", pod, "--wait=false"))
    lose(t, job, "evicted", lambda pod: evict(t, pod))
    lose(t, job, "kill -9", lambda pod: t.signal(pod, "KILL", containing="worker"))
    lose(t, job, "SIGSTOP", lambda pod: t.signal(pod, "STOP", containing="worker"))
    drain(t, job)
    lose_all(t, job)
    lose_s3(t, job)
    t.check(job.status().get("restarts", 0) == 0, f"lost workers used up restarts: {job.status()}")
    job.finish()
    operator.check_rights()
    bad_row(t)


def lose(t: Scenario, job: Job, how: str, act) -> None:
    pod, generation, began = job.pods()[0], job.generation(), time.monotonic()
    act(pod)
    t.until(f"{how}: others run in its place", lambda: job.generation() > generation and pod not in job.pods(), 30)
    recovered(t, job, how, began)


def recovered(t: Scenario, job: Job, how: str, began: float) -> None:
    job.goes_on(RECOVERED_SECONDS_MAX)
    job.settled(4)
    t.say(f"{how}: as before after {time.monotonic() - began:.1f} s")


def evict(t: Scenario, pod: str) -> None:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": t.namespace}}
    path = f"/api/v1/namespaces/{t.namespace}/pods/{pod}/eviction"
    t.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(body), namespace=False)


def drain(t: Scenario, job: Job) -> None:
    node = max(("node1", "node2"), key=lambda one: len(job.on_node(one)))
    workers, began = job.on_node(node), time.monotonic()
    t.undo(lambda: t.kubectl("uncordon", node, namespace=False))
    t.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=90s", namespace=False)
    t.check(workers and not job.on_node(node), f"workers are still on {node}")
    recovered(t, job, f"node with {len(workers)} workers drained", began)
    t.kubectl("uncordon", node, namespace=False)


def lose_all(t: Scenario, job: Job) -> None:
    pods, generation, began = job.pods(), job.generation(), time.monotonic()
    for pod in pods:
        t.signal(pod, "KILL", containing="worker")
    t.until("all at once: others run", lambda: job.generation() > generation and not set(pods) & set(job.pods()), 30)
    recovered(t, job, "all at once", began)


def lose_s3(t: Scenario, job: Job) -> None:
    check = unchanged(job)
    t.s3_is("cut")
    time.sleep(S3_AWAY_SECONDS)
    t.s3_is("mend")
    began = time.monotonic()
    job.goes_on()
    job.settled(4)
    check("an outage of S3")
    t.say(f"S3 away: output again {time.monotonic() - began:.1f} s after it is back")


def bad_row(t: Scenario) -> None:
    """A row that can't be computed: Failed, with its place; the corrected manifest is all it needs."""
    job = Job(t, 100_000, name="bad", rate=20_000, failover={"restarts": 1, "within": "10m"})
    t.apply(job.with_bad_row(BAD))
    said = job.says("Failed")
    t.check(job.phase() == "Failed" and job.condition("Stalled").get("status") == "True", f"{job.status()}")
    t.contains(said, "keyed", "made", str(BAD))
    t.say(f"a bad row: {said[:200]}")
    t.check(not job.pods(), f"a failed job has workers: {job.pods()}")
    seen = [row["seq"] for row in t.bucket.rows("out/bad/rows")]
    t.check(seen and len(seen) == len(set(seen)) and BAD not in seen, f"{len(seen)} rows")
    job.apply()
    job.finish()
