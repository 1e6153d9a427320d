"""The chart upgraded to another image under load: operators are replaced, no worker is; new workers have the new image."""

import os
from pathlib import Path

from harness import shell
from harness.operated import Job, Operator
from harness.process import BINARY
from harness.scenario import IMAGE, Scenario
from harness.shell import ROOT, STATE

# Without an older binary it shows less than its name says.
SUBSET = False
DEADLINE_SECONDS = 240
BEFORE = "weir.dev/weir:e2e-before"


def run(t: Scenario) -> None:
    # WEIR_BINARY_BEFORE is that of the version before; without it only the image's name is another one.
    before = Path(os.environ.get("WEIR_BINARY_BEFORE", BINARY))
    archive = STATE / "weir-before.tar"
    shell.run(ROOT / "e2e/image/build.sh", before, archive, BEFORE)
    shell.run(ROOT / "e2e/cluster/cluster.sh", "load", archive)
    archive.unlink()

    t.secret()
    operator = Operator(t, "--set", "image.tag=e2e-before")
    job = Job(t, 1_000_000)
    job.apply(replicas=2)
    job.settled(2)
    workers, generation, operators = job.pods(), job.generation(), operator.pods()
    t.check(images(job) == {BEFORE}, f"images: {images(job)}")

    operator.helm("upgrade")
    t.until("the operators are others", lambda: len(operator.pods()) == 2 and not set(operators) & set(operator.pods()))
    job.goes_on()
    job.settled(2)
    t.check(job.pods() == workers and job.generation() == generation, f"an upgrade changed workers: {workers} to {job.pods()}")
    job.scale(3)
    job.settled(3)
    new = set(job.pods()) - set(workers)
    t.check(set(workers) < set(job.pods()), f"{workers} became {job.pods()}")
    t.check(images(job, new) == {IMAGE}, f"images of new workers: {images(job, new)}")
    t.kubectl("annotate", "sj", job.name, "weir.dev/restart=upgrade")
    t.until("all are restarted", lambda: job.status().get("acknowledged", {}).get("restart") == "upgrade")
    job.settled(3)
    t.check(images(job) == {IMAGE} and not set(workers) & set(job.pods()), f"images: {images(job)}")

    # Nothing is changed, and so nothing is done.
    workers, operators = job.pods(), operator.pods()
    operator.helm("upgrade")
    t.check(operator.pods() == operators, "an upgrade to the same replaced operators")
    job.goes_on()
    t.check(job.pods() == workers, f"{workers} became {job.pods()}")
    job.finish()
    operator.check_rights()


def images(job: Job, names: set[str] | None = None) -> set[str]:
    pods = [pod for pod in job.pod_objects() if names is None or pod["metadata"]["name"] in names]
    return {pod["spec"]["containers"][0]["image"] for pod in pods}
