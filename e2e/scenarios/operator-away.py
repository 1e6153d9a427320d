"""Operators killed at writes, their leader lost, none at all for a while, two that both believe they lead, statuses emptied."""

import os
import random
import time

from harness.lives import HOWS, Kill, Lives
from harness.operated import Job, Operator, started, unchanged
from harness.scenario import Scenario
from harness.shell import Failed

DEADLINE_SECONDS = 360
# Of all that killed-at-writes goes through, so many lives; WEIR_E2E_SEED gives others.
LIVES, LANES, NTH_MAX = 6, 3, 30
AWAY_SECONDS = 10


def run(t: Scenario) -> None:
    operator, job = started(t, 500_000, 2, "--set", f"watchNamespaces={{{t.namespace}}}", rate=2_500)
    other = Job(t, 500_000, name="other", rate=2_500)
    other.apply()
    other.settled(1)

    lose_the_leader(t, operator, job)
    none_for_a_while(t, operator, job, other)
    empty_statuses(t, job, other)
    changed_while_away(t, operator, job)
    sleeping_leader(t, operator, job)
    job.finish()
    other.finish()
    t.check(job.status().get("restarts", 0) == 0, f"restarts: {job.status()}")
    operator.check_rights()
    killed_at_writes(t)


def lose_the_leader(t: Scenario, operator: Operator, job: Job) -> None:
    check, leader, began = unchanged(job), operator.leader(job.name), time.monotonic()
    operator.kill_one(leader)
    job.goes_on()
    t.say(f"leader lost: output is committed again after {time.monotonic() - began:.1f} s")
    check("leader lost")


def none_for_a_while(t: Scenario, operator: Operator, *jobs: Job) -> None:
    check = unchanged(*jobs)
    operator.scale(0)
    t.until("all are gone", lambda: not t.kubectl(
        "get", "pods", "-n", operator.namespace, "-o", "name", namespace=False).strip(), 40)
    committed = t.bucket.published("out")
    time.sleep(AWAY_SECONDS)
    t.check(t.bucket.published("out") == committed, "output was committed with nobody there")
    began, before = time.monotonic(), {job.name: len(t.bucket.rows(f"out/{job.name}/rows")) for job in jobs}
    operator.scale(2)
    for job in jobs:
        job.goes_on()
    seconds = time.monotonic() - began
    t.say(f"back after {AWAY_SECONDS} s: output is committed again after {seconds:.1f} s")
    for job in jobs:
        # What was read meanwhile is not read again.
        came = len(t.bucket.rows(f"out/{job.name}/rows")) - before[job.name]
        t.check(came > AWAY_SECONDS * job.rate, f"{job.name}: {came} rows came in the first commits, so workers did not work on")
    check("away")


def empty_statuses(t: Scenario, *jobs: Job) -> None:
    check = unchanged(*jobs)
    for job in jobs:
        t.kubectl("patch", "sj", job.name, "--subresource=status", "--type=merge", "-p", '{"status":null}')
    for job in jobs:
        job.settled(seconds=40)
    check("status emptied")


def sleeping_leader(t: Scenario, operator: Operator, job: Job) -> None:
    """It sleeps until another one has taken over, and wakes believing that it leads."""
    check, leader = unchanged(job), operator.leader(job.name)
    t.undo(lambda: wake(t, operator, leader))
    t.signal(leader, "STOP", containing="operator", namespace=operator.namespace)
    t.until("another one took it over", lambda: operator.lease_holder_of_all() not in (None, leader), 40)
    job.goes_on()
    wake(t, operator, leader)
    job.goes_on()
    check("leader asleep")


def wake(t: Scenario, operator: Operator, pod: str) -> None:
    try:
        t.signal(pod, "CONT", containing="operator", namespace=operator.namespace)
    except Failed:
        pass   # it is gone


def killed_at_writes(t: Scenario) -> None:
    seed = int(os.environ.get("WEIR_E2E_SEED", "1"))
    t.say(f"seed {seed}")
    every = [Kill(nth, how) for nth in range(1, NTH_MAX + 1) for how in HOWS]
    Lives(t, LANES).killed(random.Random(seed).sample(every, LIVES))


def changed_while_away(t: Scenario, operator: Operator, job: Job) -> None:
    operator.scale(0)
    job.scale(4)
    operator.scale(2)
    job.settled(4, 90)
