"""Compactors killed at random, none at all, and back: output and bucket right, the condition says who compacts."""

import random
import time

from harness import state
from harness.operated import Job, Operator
from harness.scenario import Scenario

DEADLINE_SECONDS = 300
KILLS = 8


def run(t: Scenario) -> None:
    t.secret()
    operator = Operator(t)
    job = Job(t, 400_000, replicas=2, checkpoint={"interval": "1s", "retained": 1}, compaction={"mode": "Remote", "minReplicas": 2, "maxReplicas": 3})
    job.apply()
    job.settled(2)
    job.says("Remote", "CompactionHealthy")
    t.until("a compactor has compacted", lambda: compacted(t, job) > 0, 60)
    generation = job.generation()

    killed, chance = [], random.Random(1)
    while len(killed) < KILLS:
        # One that was killed is shown as running for a moment.
        living = sorted(set(compactors(t, job)) - set(killed))
        if living:
            killed.append(chance.choice(living))
            t.signal(killed[-1], "KILL", containing="worker")
        time.sleep(chance.uniform(0.2, 3))
    t.until("two compactors are ready again", lambda: ready(t, job) >= 2, 60)
    job.says("Remote", "CompactionHealthy", 90)
    t.check(job.generation() == generation, "a compactor's death began a new generation")
    t.check(job.status().get("restarts", 0) == 0, f"{job.status()}")
    t.say(f"{len(killed)} compactors were killed; generation {generation} went on")

    job.apply(compaction={"mode": "Remote", "minReplicas": 0, "maxReplicas": 0})
    t.contains(job.says("NoCompactors", "CompactionHealthy"), "the workers compact themselves")
    t.until("no compactor is left", lambda: not compactors(t, job), 60)
    job.goes_on()
    t.check(job.condition("Ready").get("status") == "True", f"{job.status()}")
    job.apply(compaction={"mode": "Remote", "minReplicas": 1})
    job.says("Remote", "CompactionHealthy", 90)
    t.check(job.generation() == generation, "another number of compactors began a new generation")

    job.finish()
    state.exact(job, "finished", least=0)
    operator.check_rights()


def compactors(t: Scenario, job: Job) -> list[str]:
    found = t.pods(f"app.kubernetes.io/component=compactor,weir.dev/job={job.name}")
    living = [pod for pod in found if "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") == "Running"]
    return sorted(pod["metadata"]["name"] for pod in living)


def ready(t: Scenario, job: Job) -> int:
    found = t.pods(f"app.kubernetes.io/component=compactor,weir.dev/job={job.name}")
    is_ready = lambda pod: any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))
    return sum(1 for pod in found if is_ready(pod) and "deletionTimestamp" not in pod["metadata"])


def compacted(t: Scenario, job: Job) -> int:
    logs = (t.kubectl("logs", pod, "--tail=200") for pod in compactors(t, job))
    return sum(log.count("carried out compaction") for log in logs)
