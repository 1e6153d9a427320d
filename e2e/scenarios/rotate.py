"""A job's credentials are replaced under load and the old ones shut out two minutes later: no restart, no row lost."""

import time

from harness import shell
from harness.operated import Job, Operator
from harness.scenario import Scenario

# A kubelet takes up to 90 s to bring a mounted secret up to date, and a worker reads it every 30 s.
SUBSET = False
DEADLINE_SECONDS = 300
ROTATED_SECONDS_MAX = 130


def run(t: Scenario) -> None:
    user(t, "create-user", "first", "--secret", "first-secret", "--role", "admin")
    t.undo(lambda: user(t, "delete-user", "first", ok=(0, 1)))
    t.undo(lambda: user(t, "delete-user", "second", ok=(0, 1)))
    secret(t, "first")
    operator = Operator(t)
    job = Job(t, 1_500_000)
    job.apply(replicas=2)
    job.settled(2)
    pods, generation = job.pods(), job.generation()

    user(t, "create-user", "second", "--secret", "second-secret", "--role", "admin")
    secret(t, "second")
    time.sleep(ROTATED_SECONDS_MAX)
    user(t, "delete-user", "first")
    t.say("the old credentials are nobody's")
    for _ in range(3):
        job.goes_on(20)
    t.check(job.pods() == pods and job.generation() == generation, "a rotation made a new generation")
    t.check(job.condition("CheckpointsHealthy").get("status") == "True", f"{job.status()}")
    t.check(job.status().get("restarts", 0) == 0, f"{job.status()}")
    # New workers and another operator know the new ones from the start.
    job.scale(3)
    job.settled(3)
    operator.kill()
    job.goes_on()
    logs = "".join(t.logs(pod) for pod in job.pods())
    t.check("-secret" not in logs and "-secret" not in str(job.status()), "credentials are in a log or in the status")
    job.finish()
    operator.check_rights()


def user(t: Scenario, verb: str, name: str, *words: str, ok: tuple[int, ...] = (0,)) -> None:
    shell.run("versitygw", "admin", "--access", t.s3.key, "--secret", t.s3.secret, "--endpoint-url", t.s3.endpoint,
              verb, "--access", name, *words, ok=ok)


def secret(t: Scenario, name: str) -> None:
    t.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"}, "stringData": {
        "AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": f"{name}-secret"}})
