"""What is in a job's state folder, by `weir state` and by the bucket's own list."""

import re

from . import shell
from .operated import Job
from .scenario import Scenario
from .shell import BINARY


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
    found = differs(job, least)
    job.t.check(not found, f"{what}: {found}")
    job.t.say(f"{what}: {len(objects(job))} objects are named, and they are all there is")


def differs(job: Job, least: int = 0, beside: set[str] | None = None) -> str:
    """In what the bucket is not exactly what the one kept checkpoint names, beside what workers hold ready for the next one."""
    uri = job.t.bucket.uri(f"state/{job.name}")
    shown = weir(job.t, "show", uri)
    kept = re.findall(r"^checkpoint (\d+) .*: (\d+) objects, (\d+) bytes", shown, re.MULTILINE)
    if len(kept) != 1:
        return f"{len(kept)} checkpoints are kept: {shown[:1500]}"
    named, there = int(kept[0][1]), objects(job).keys() - (beside or set())
    if named != len(there) or named < least:
        return f"{named} objects are named, {len(there)} are there: {sorted(there)[:40]}\n{shown}"
    said = weir(job.t, "gc", uri, "--dry-run")
    return "" if "0 objects, 0 bytes would be deleted; held by 1 checkpoints" in said else said


def unnamed(job: Job) -> set[str]:
    """What no record of the journal has ever named."""
    there = objects(job)
    records = [key for key in job.t.bucket.keys(f"state/{job.name}/") if "/journal/" in key or "/base/" in key]
    named = b"".join(job.t.bucket.get(key) for key in records)
    return {key for key in there if key.rpartition("/")[2].encode() not in named}


def staged(job: Job) -> list[str]:
    """Output that nobody has published."""
    return job.t.bucket.staged(f"out/{job.name}")


def kept(job: Job) -> list[str]:
    """All of its state but the claims, which stay."""
    return [key for key in job.t.bucket.keys(f"state/{job.name}/") if "/claims/" not in key]


def dependents(job: Job) -> list[str]:
    """What it has in the cluster beside itself."""
    return job.t.kubectl("get", "pods,secrets", "-l", f"weir.dev/job={job.name}", "-o", "name").split()
