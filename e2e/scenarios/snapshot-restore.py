"""Snapshots: of a running job, kept when it is deleted with its state, restored under another name and width, forked while deleted."""

import json

from harness.operated import Job, started
from harness.scenario import Scenario

DEADLINE_SECONDS = 420
ROWS = 120_000


def run(t: Scenario) -> None:
    operator, first = started(t, ROWS, 1, rate=2_000)
    t.apply(snapshot("monday", first.name))
    t.kubectl("wait", "jsnap", "monday", "--for=condition=Ready", "--timeout=60s")
    taken = t.get("jsnap", "monday")["status"]
    t.check(taken["checkpoint"] >= 1 and taken["uri"] == t.bucket.uri("state/counts"), f"{taken}")
    line = t.kubectl("get", "jsnap", "monday").splitlines()[1].split()
    t.check(line[1:3] == ["counts", "Ready"], f"{line}")
    first.goes_on()

    # The job goes with its state; what the snapshot holds stays.
    first.change({"deletionPolicy": "Delete"})
    t.until("the finalizer is there", lambda: t.get("sj", "counts")["metadata"].get("finalizers"))
    t.kubectl("delete", "sj", "counts", "--timeout=120s")
    t.check(objects(t, "counts"), "the snapshot's files went with the job")
    operator.kill()
    t.until("two operators are back", lambda: len(operator.pods("Running")) == 2)
    t.until("it is ready without its job", lambda: status(t, "monday").get("phase") == "Ready", 30)

    # Another name and other replicas; then a fork while the snapshot is deleted.
    origin = {"snapshotRef": {"name": "monday"}}
    again = Job(t, ROWS, name="again", rate=5_000, replicas=2, restoreFrom=origin)
    again.apply()
    again.settled(2, 120)
    fork = Job(t, ROWS, name="fork", rate=20_000, restoreFrom=origin)
    fork.apply()
    t.kubectl("delete", "jsnap", "monday", "--timeout=120s")
    t.until("nothing of the first job is left", lambda: not objects(t, "counts"), 60)
    t.until("the fork has begun, or is refused", lambda: begun(fork), 90)
    t.say(f"a fork of a snapshot that is deleted: {begun(fork)}")

    finish(t, again, taken["checkpoint"])
    if begun(fork) == "begun":
        finish(t, fork, taken["checkpoint"])

    # Of a finished job, which has no coordinator; and one of nothing.
    t.apply(snapshot("tuesday", "again"))
    t.kubectl("wait", "jsnap", "tuesday", "--for=condition=Ready", "--timeout=60s")
    t.kubectl("delete", "jsnap", "tuesday", "--timeout=60s")
    t.apply(snapshot("nothing", "nobody"))
    t.until("it says that there is no such job", lambda: reason(t, "nothing") == "JobNotFound", 30)
    t.kubectl("delete", "jsnap", "nothing", "--timeout=30s")

    # From a state folder, without a snapshot: all is read there, so nothing is left to write.
    origin = {"uri": t.bucket.uri("state/again"), "store": again.store}
    copy = Job(t, ROWS, name="copy", rate=0, restoreFrom=origin)
    copy.apply()
    t.until("a job that begins from a finished one's state finishes", lambda: copy.phase() == "Finished", 120)
    t.check(not numbers(t, "copy"), "it has written rows that were written before")
    operator.check_rights()


def finish(t: Scenario, job: Job, checkpoint: int) -> None:
    """What the first job wrote up to the snapshot and what this one wrote is every number once."""
    job.rate = 0
    job.apply()
    t.until(f"{job.name} has finished", lambda: job.phase() == "Finished", 120)
    before, after = numbers(t, "counts", checkpoint), numbers(t, job.name)
    t.check(before and after and sorted(before + after) == list(range(ROWS)),
            f"{len(before)} rows up to the snapshot and {len(after)} of {job.name} are not the {ROWS} numbers once")


def numbers(t: Scenario, job: str, checkpoint: int | None = None) -> list[int]:
    """The numbers in a job's files, up to a checkpoint."""
    found = []
    for key in t.bucket.published(f"out/{job}/rows"):
        if checkpoint is not None and int(key.rpartition("/")[2].split("-")[2]) > checkpoint:
            continue
        found += [json.loads(line)["seq"] for line in t.bucket.get(key).splitlines()]
    return found


def snapshot(name: str, job: str) -> dict:
    return {"apiVersion": "weir.dev/v1alpha1", "kind": "JobSnapshot", "metadata": {"name": name}, "spec": {"jobRef": {"name": job}}}


def status(t: Scenario, name: str) -> dict:
    return (t.get("jsnap", name) or {}).get("status", {})


def reason(t: Scenario, name: str) -> str:
    return next((one["reason"] for one in status(t, name).get("conditions", []) if one["type"] == "Stalled"), "")


def begun(job: Job) -> str | None:
    if job.condition("Stalled").get("status") == "True":
        return "refused"
    return "begun" if job.phase() in ("Running", "Finished") else None


def objects(t: Scenario, job: str) -> list[str]:
    return [key for key in t.bucket.keys(f"state/{job}/") if "/objects/" in key]
