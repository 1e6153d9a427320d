"""Compactors killed at random, none at all, and back: output and bucket right, the condition says who compacts."""

import random
import time

from harness import state
from harness.operated import Job, started
from harness.scenario import Scenario

DEADLINE_SECONDS = 300
KILLS = 8


def run(t: Scenario) -> None:
    operator, job = started(t, 400_000, 2, checkpoint={"interval": "1s", "retained": 1},
                            compaction={"mode": "Remote", "minReplicas": 2, "maxReplicas": 3})
    job.says("Remote", "CompactionHealthy")
    t.until("a compactor has compacted", lambda: compacted(t, job) > 0)
    generation = job.generation()

    killed, chance = [], random.Random(1)
    while len(killed) < KILLS:
        # One that was killed is shown as running for a moment.
        living = sorted(set(compactors(job)) - set(killed))
        if living:
            killed.append(chance.choice(living))
            t.signal(killed[-1], "KILL", containing="worker")
        time.sleep(chance.uniform(0.2, 3))
    t.until("two compactors are ready again", lambda: len(compactors(job, are_ready=True)) >= 2)
    job.says("Remote", "CompactionHealthy", 90)
    t.check(job.generation() == generation, "a compactor's death began a new generation")
    t.check(job.status().get("restarts", 0) == 0, f"{job.status()}")
    t.say(f"{len(killed)} compactors were killed; generation {generation} went on")

    job.apply(compaction={"mode": "Remote", "minReplicas": 0, "maxReplicas": 0})
    t.contains(job.says("NoCompactors", "CompactionHealthy"), "the workers compact themselves")
    t.until("no compactor is left", lambda: not compactors(job))
    job.goes_on()
    t.check(job.condition("Ready").get("status") == "True", f"{job.status()}")
    job.apply(compaction={"mode": "Remote", "minReplicas": 1})
    job.says("Remote", "CompactionHealthy", 90)
    t.check(job.generation() == generation, "another number of compactors began a new generation")

    job.finish()
    state.exact(job, "finished", least=0)
    operator.check_rights()


def compactors(job: Job, are_ready: bool = False) -> list[str]:
    """Those that run."""
    def counts(status: dict) -> bool:
        is_ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", []))
        return status.get("phase") == "Running" and (is_ready or not are_ready)

    return sorted(pod["metadata"]["name"] for pod in job.pod_objects("compactor") if counts(pod["status"]))


def compacted(t: Scenario, job: Job) -> int:
    logs = (t.kubectl("logs", pod, "--tail=200") for pod in compactors(job))
    return sum(log.count("carried out compaction") for log in logs)
