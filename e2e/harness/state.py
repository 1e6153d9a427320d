"""What is in a job's state folder, by `weir state` and by the bucket's own list."""

import re

from . import shell
from .operated import Job
from .process import BINARY
from .scenario import Scenario


def weir(t: Scenario, command: str, uri: str, *words: str) -> str:
    """`weir state …` from this machine, on a folder in the scenario's S3 server."""
    settings = {"AWS_ENDPOINT": t.s3.endpoint, "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": t.s3.key,
                "AWS_SECRET_ACCESS_KEY": t.s3.secret, "NO_PROXY": "10.0.0.0/8", "no_proxy": "10.0.0.0/8"}
    pairs = [f"{name}={value}" for name, value in settings.items()]
    return shell.run("env", *pairs, BINARY, "state", command, *words, uri).stdout


def objects(job: Job) -> dict[str, int]:
    """What the state has beside journal, bases and claims."""
    found = job.t.bucket.keys(f"state/{job.name}/")
    return {key: size for key, size in found.items() if not any(f"/{part}/" in key for part in ("journal", "base", "claims"))}


def exact(job: Job, what: str, least: int = 1) -> None:
    """The one kept checkpoint names so many objects; so many are there, and none that anybody would delete."""
    t, uri = job.t, job.t.bucket.uri(f"state/{job.name}")
    shown = weir(t, "show", uri)
    kept = re.findall(r"^checkpoint (\d+) .*: (\d+) objects, (\d+) bytes", shown, re.MULTILINE)
    t.check(len(kept) == 1, f"{what}: {len(kept)} checkpoints are kept: {shown[:1500]}")
    named, there = int(kept[0][1]), objects(job)
    t.check(named == len(there) and named >= least, f"{what}: {named} objects are named, {len(there)} are there: {sorted(there)[:40]}\n{shown}")
    said = weir(t, "gc", uri, "--dry-run")
    t.contains(said, "0 objects, 0 bytes would be deleted; held by 1 checkpoints")
    t.say(f"{what}: {named} objects are named, and they are all there is")


def staged(job: Job) -> list[str]:
    """Output that nobody has published."""
    return [key for key in job.t.bucket.keys(f"out/{job.name}/") if "/_weir/" in key]


def left(job: Job) -> list[str]:
    """What a deleted job has left in the cluster, and of its state."""
    found = job.t.kubectl("get", "pods,secrets", "-l", f"weir.dev/job={job.name}", "-o", "name").split()
    return found + [key for key in job.t.bucket.keys(f"state/{job.name}/") if "/claims/" not in key]
