"""What is in the bucket is exactly what the journal names: at rest, after operators and workers were killed, with the job gone."""

import random
import time

from harness import state
from harness.operated import Job, started
from harness.scenario import Scenario

DEADLINE_SECONDS = 300
KILLS = 4


def run(t: Scenario) -> None:
    operator, job = started(t, 800_000, 2, rate=5_000, checkpoint={"interval": "200ms", "retained": 1})
    while_it_runs(t, job)
    at_rest(t, job, "after it ran")

    # Between a record and what it lets be deleted: completions are five a second, so that a kill hits one.
    seeded = random.Random(5)
    for index in range(KILLS):
        time.sleep(seeded.uniform(0.5, 1.0))
        if index % 2:
            t.signal(job.pods()[0], "KILL", containing="worker")
        else:
            operator.kill()
            t.until("operators are back", lambda: len(operator.pods("Running")) == 2)
        job.goes_on()
    job.settled(2)
    at_rest(t, job, "after kills")

    job.finish()
    state.exact(job, "finished", least=0)   # all windows are closed
    t.check(not state.staged(job), f"a finished job has staged output: {state.staged(job)[:5]}")

    # Operator and workers die, and the resource goes: nobody cleans up but the command line.
    gone = Job(t, 1_000_000, name="gone", rate=20_000, checkpoint={"interval": "200ms", "retained": 1})
    gone.apply(replicas=2)
    gone.settled(2)
    for pod in gone.pods():
        t.signal(pod, "KILL", containing="worker")
    operator.kill()
    t.kubectl("delete", "sj", "gone", "--timeout=30s")
    t.until("no worker is left", lambda: not gone.pods())
    uri = t.bucket.uri("state/gone")
    state.weir(t, "gc", uri)
    said = state.weir(t, "gc", uri, "--dry-run")
    t.contains(said, "0 objects, 0 bytes would be deleted")
    t.say(f"job gone: {said.strip().splitlines()[-1]}")
    operator.check_rights()


def while_it_runs(t: Scenario, job: Job) -> None:
    """Completions clean up as they go: what is there does not grow with their number."""
    sizes = []
    for _ in range(4):
        time.sleep(2)
        sizes.append(len(state.objects(job)))
    t.check(max(sizes) < 200, f"objects of one kept checkpoint: {sizes}")
    t.say(f"while it runs there are {sizes} objects beside the journal")


def at_rest(t: Scenario, job: Job, what: str) -> None:
    job.change({"suspend": True})
    t.until("it is suspended", lambda: job.phase() == "Suspended" and not job.pods())
    state.exact(job, what)
    job.change({"suspend": False})
    job.settled(2)
