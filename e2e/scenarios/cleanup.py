"""What is in the bucket is exactly what the journal names: at rest, after operators and workers were killed, with the job gone."""

import os
import random
import re
import time

from harness import shell
from harness.operated import Job, Operator
from harness.scenario import Scenario
from harness.shell import ROOT

DEADLINE_SECONDS = 300
KILLS = 4


def run(t: Scenario) -> None:
    t.secret()
    operator = Operator(t)
    job = Job(t, 1_500_000, rate=8_000, checkpoint={"interval": "200ms", "retained": 1})
    job.apply(replicas=2)
    job.settled(2)
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
    exact(t, job, "finished")
    staged = [key for key in t.bucket.keys(f"out/{job.name}/") if "/_weir/" in key]
    t.check(not staged, f"a finished job has staged output: {staged[:5]}")

    # Operator and workers die, and the resource goes: nobody cleans up but the command line.
    gone = Job(t, 1_000_000, name="gone", rate=20_000, checkpoint={"interval": "200ms", "retained": 1})
    gone.apply(replicas=2)
    gone.settled(2)
    for pod in gone.pods():
        t.signal(pod, "KILL", containing="worker")
    operator.kill()
    t.kubectl("delete", "sj", "gone", "--timeout=30s")
    t.until("no worker is left", lambda: not gone.pods())
    weir(t, "gc", gone)
    said = weir(t, "gc", gone, "--dry-run")
    t.contains(said, "0 objects, 0 bytes would be deleted")
    t.say(f"job gone: {said.strip().splitlines()[-1]}")
    operator.check_rights()


def weir(t: Scenario, command: str, job: Job, *words: str) -> str:
    """`weir state …` from this machine, on the job's state."""
    binary = os.environ.get("WEIR_BINARY", str(ROOT / "target/release/weir"))
    settings = {"AWS_ENDPOINT": t.s3.endpoint, "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": t.s3.key,
                "AWS_SECRET_ACCESS_KEY": t.s3.secret, "NO_PROXY": "10.0.0.0/8", "no_proxy": "10.0.0.0/8"}
    pairs = [f"{name}={value}" for name, value in settings.items()]
    return shell.run("env", *pairs, binary, "state", command, *words, t.bucket.uri(f"state/{job.name}")).stdout


def while_it_runs(t: Scenario, job: Job) -> None:
    """Completions clean up as they go: what is there does not grow with their number."""
    sizes = []
    for _ in range(4):
        time.sleep(2)
        sizes.append(len(objects(t, job)))
    t.check(max(sizes) < 200, f"objects of one kept checkpoint: {sizes}")
    t.say(f"while it runs there are {sizes} objects beside the journal")


def objects(t: Scenario, job: Job) -> dict[str, int]:
    """What the state has beside journal, bases and claims."""
    found = t.bucket.keys(f"state/{job.name}/")
    return {key: size for key, size in found.items() if not any(f"/{part}/" in key for part in ("journal", "base", "claims"))}


def exact(t: Scenario, job: Job, what: str) -> None:
    """The one kept checkpoint names so many objects; so many are there, and none that anybody would delete."""
    shown = weir(t, "show", job)
    kept = re.findall(r"^checkpoint (\d+) .*: (\d+) objects, (\d+) bytes", shown, re.MULTILINE)
    t.check(len(kept) == 1, f"{what}: {len(kept)} checkpoints are kept: {shown[:1500]}")
    named, there = int(kept[0][1]), objects(t, job)
    t.check(named == len(there) and named > 0, f"{what}: {named} objects are named, {len(there)} are there: {sorted(there)[:40]}\n{shown}")
    said = weir(t, "gc", job, "--dry-run")
    t.contains(said, "0 objects, 0 bytes would be deleted; held by 1 checkpoints")
    t.say(f"{what}: {named} objects are named, and they are all there is")


def at_rest(t: Scenario, job: Job, what: str) -> None:
    job.change({"suspend": True})
    t.until("it is suspended", lambda: job.phase() == "Suspended" and not job.pods())
    exact(t, job, what)
    job.change({"suspend": False})
    job.settled(2)
