"""Nothing changed, nothing done: the same object, labels, an operator's restart; an idle operator asks only for its leases."""

import time
from collections import Counter

from harness import audit
from harness.operated import Job, Operator, unchanged
from harness.scenario import Scenario

# Most of it is waiting for nothing to happen.
SUBSET = False
DEADLINE_SECONDS = 400
IDLE_SECONDS = 40
# Renewal every 5 s of a list, its own lease and those of its shards, of two operators.
LEASE_REQUESTS_A_SECOND_MAX = 2.5
# Bookmarks and timeouts begin a watch anew after minutes; two operators watch pods and jobs.
WATCHES_MAX = 4


def run(t: Scenario) -> None:
    t.secret()
    operator = Operator(t)
    job, idle, finished = Job(t, 2_000_000, rate=1_000), Job(t, 1_000, name="idle"), Job(t, 1_000, name="finished")
    job.apply(replicas=2)
    idle.apply(suspend=True)
    finished.rate = 0
    finished.apply()
    job.settled(2)
    t.until("one has finished, one is suspended", lambda: (finished.phase(), idle.phase()) == ("Finished", "Suspended"))
    time.sleep(3)   # what belongs to the beginning is written by then

    undisturbed(t, "applied as it is", lambda: [one.apply() for one in (job, idle, finished)], job, idle, finished)
    undisturbed(t, "labels and annotations", lambda: label(t), job, idle, finished)
    nothing_asked(t, operator)
    job.change({"suspend": True})
    t.until("all are at rest", lambda: job.phase() == "Suspended")
    time.sleep(2)
    idle_operator(t, operator)
    job.change({"suspend": False})
    job.settled(2)
    time.sleep(3)
    undisturbed(t, "operators restarted", lambda: restart(t, operator), job, idle, finished)
    operator.check_rights()


def label(t: Scenario) -> None:
    for one in ("counts", "idle", "finished"):
        t.kubectl("label", "sj", one, "team=blue", "--overwrite")
        t.kubectl("annotate", "sj", one, "example.com/note=x", "--overwrite")


def restart(t: Scenario, operator: Operator) -> None:
    t.kubectl("rollout", "restart", "deployment/weir", "-n", operator.namespace, namespace=False)
    t.kubectl("rollout", "status", "deployment/weir", "-n", operator.namespace, "--timeout=90s", namespace=False)


def undisturbed(t: Scenario, what: str, act, running: Job, *still: Job) -> None:
    """No pod changes, no generation begins; a job at rest is not written, and of one that runs only the numbers."""
    check = unchanged(running, *still)
    statuses = {job.name: (job.status(), job.status_written()) for job in (running, *still)}
    act()
    time.sleep(20)
    check(what)
    for job in still:
        t.check((job.status(), job.status_written()) == statuses[job.name], f"{what}: the status of {job.name} was written")
        t.check(not job.pods(), f"{what}: {job.name} has pods")
    changed = changes(statuses[running.name][0], running.status())
    t.check(changed <= {"lastCheckpoint", "message"}, f"{what}: the status changed in {changed}")
    t.say(f"{what}: nothing was done")


def changes(before: dict, after: dict) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def nothing_asked(t: Scenario, operator: Operator) -> None:
    """One job runs: of it, a status and a look at its secret at most every 30 s."""
    began = time.time()
    time.sleep(IDLE_SECONDS)
    asked = audit.requests(operator, began)
    statuses, secrets = asked.pop(("patch", "statefuljobs/status"), 0), asked.pop(("get", "secrets"), 0)
    t.check(max(statuses, secrets) <= IDLE_SECONDS // 30 + 1, f"{statuses} statuses, {secrets} secrets in {IDLE_SECONDS} s")
    only_leases(t, asked)
    t.say(f"{IDLE_SECONDS} s with a job that runs: {statuses} statuses, {dict(asked)}")


def idle_operator(t: Scenario, operator: Operator) -> None:
    began = time.time()
    time.sleep(IDLE_SECONDS)
    asked = audit.requests(operator, began)
    only_leases(t, asked)
    t.say(f"{IDLE_SECONDS} s idle: {dict(asked)}")


def only_leases(t: Scenario, asked: Counter) -> None:
    audit.only_leases(t, asked)
    leases, watches = audit.leases(asked), sum(count for (verb, _), count in asked.items() if verb == "watch")
    t.check(leases <= LEASE_REQUESTS_A_SECOND_MAX * IDLE_SECONDS, f"{leases} requests for leases in {IDLE_SECONDS} s")
    t.check(watches <= WATCHES_MAX, f"{watches} watches in {IDLE_SECONDS} s")
