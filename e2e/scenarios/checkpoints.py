"""Checkpoints: interval and minPause live, one at once by annotation, a schedule in a zone with runs missed, quiet status."""

import datetime
import time

from harness.operated import Job, Operator
from harness.scenario import Scenario

# Schedules run by the minute.
SUBSET = False
DEADLINE_SECONDS = 480


def run(t: Scenario) -> None:
    t.secret()
    operator = Operator(t)
    job = Job(t, 10_000_000, rate=1_000)
    job.apply(checkpoint={"interval": "1h"})
    t.until("it runs", lambda: job.phase() == "Running" and len(job.pods()) == 1)
    names = job.pods()

    # By the interval there would be none for an hour.
    ask(t, "one")
    t.until("the checkpoint is acknowledged", lambda: acknowledged(job) == "one", 30)
    first = committed(t, job)
    t.check(first == {1}, f"checkpoints {first}")
    ask(t, "two")
    t.until("another one is acknowledged", lambda: acknowledged(job) == "two", 30)
    operator.kill()
    t.until("two operators are back", lambda: len(operator.pods("Running")) == 2)
    time.sleep(20)
    seen = committed(t, job)
    t.check(seen == {1, 2}, f"checkpoints {seen}: an operator that starts takes none again")

    job.change({"checkpoint": {"interval": "1s"}})
    taken = during(t, job, 10)
    t.check(5 <= taken <= 12, f"{taken} checkpoints in 10 s at an interval of 1 s")
    job.change({"checkpoint": {"minPause": "4s"}})
    time.sleep(2)
    taken = during(t, job, 12)
    t.check(1 <= taken <= 4, f"{taken} checkpoints in 12 s with a pause of 4 s")
    t.check(job.pods() == names, "a change of the policy restarted workers")

    quiet(t, job)
    schedule(t, operator, job)

    job.change({"suspend": True, "checkpoint": {"snapshots": None}})
    t.until("it is suspended", lambda: job.phase() == "Suspended")
    ask(t, "three")
    t.until("a suspended job acknowledges at once", lambda: acknowledged(job) == "three", 15)
    operator.check_rights()


def ask(t: Scenario, what: str) -> None:
    t.kubectl("annotate", "sj", "counts", f"weir.dev/checkpoint={what}", "--overwrite")


def acknowledged(job: Job) -> str | None:
    return job.status().get("acknowledged", {}).get("checkpoint")


def committed(t: Scenario, job: Job) -> set[int]:
    """Checkpoints that have committed output, by the names of its files."""
    names = [key.rpartition("/")[2] for key in t.bucket.keys(f"out/{job.name}/rows/") if "/_weir/" not in key]
    return {int(name.split("-")[2]) for name in names}


def during(t: Scenario, job: Job, seconds: float) -> int:
    before = committed(t, job)
    time.sleep(seconds)
    return len(committed(t, job) - before)


def quiet(t: Scenario, job: Job) -> None:
    """Numbers that move are written every 30 s at most."""
    time.sleep(5)
    versions = set()
    end = time.monotonic() + 65
    while time.monotonic() < end:
        versions.add(t.get("sj", job.name)["metadata"]["resourceVersion"])
        time.sleep(0.5)
    t.check(2 <= len(versions) <= 4, f"{len(versions) - 1} writes of the status in 65 s")


def schedule(t: Scenario, operator: Operator, job: Job) -> None:
    """Each minute, in a zone of half hours; while no operator is there two are missed, and one is made up for."""
    snapshots = {"schedule": "* * * * *", "timeZone": "Asia/Kolkata", "retained": 2}
    job.change({"checkpoint": {"minPause": "0s", "snapshots": snapshots}})
    t.until("a snapshot by schedule is ready", lambda: ready(t), 90)
    operator.scale(0)
    seen, away = set(all_of(t)), datetime.datetime.now(datetime.UTC)
    time.sleep(125)
    t.check(set(all_of(t)) == seen, "snapshots came while no operator was there")
    operator.scale(2)
    t.until("a missed one is made up for", lambda: set(all_of(t)) - seen, 60)
    time.sleep(3)
    new = sorted(set(all_of(t)) - seen)
    t.check(len(new) <= 2, f"more than one missed run was made up for: {new}")
    minute = datetime.datetime.strptime(new[0].removeprefix("counts-"), "%Y%m%d%H%M").replace(tzinfo=datetime.UTC)
    t.check(minute > away + datetime.timedelta(seconds=55), f"{new[0]} is not the last one that was missed")
    t.until("older ones are pruned", lambda: len(ready(t)) >= 2 and len(all_of(t)) <= 3 and not seen & set(all_of(t)), 200)


def all_of(t: Scenario) -> list[str]:
    return t.kubectl("get", "jsnap", "-o", 'jsonpath={range .items[*]}{.metadata.name}{"\\n"}{end}').split()


def ready(t: Scenario) -> list[str]:
    return [name for name in all_of(t) if (t.get("jsnap", name) or {}).get("status", {}).get("phase") == "Ready"]
