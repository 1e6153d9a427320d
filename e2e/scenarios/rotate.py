"""Credentials, certificates and their authority are replaced under load: no restart, no row lost, nobody refused.

The store's old credentials are shut out two minutes after the new ones came. The authority is followed by another in its
three steps; in each of them the operator is killed, so that all connections to the workers are made anew."""

import time

from harness import api, shell
from harness.operated import Job, Operator, unchanged
from harness.scenario import Scenario

# A kubelet takes up to 90 s to bring a mounted secret up to date, and a worker reads it every 30 s.
SUBSET = False
DEADLINE_SECONDS = 1_100
ROTATED_SECONDS_MAX = 130
# Looks every 10 s, and 150 s until everybody has what was given out, counted anew by an operator that begins.
STEP_SECONDS_MAX = 150 + 3 * 10 + 60
SHORT = ("certificates.checkInterval=10s", "certificates.lifetime=10m", "certificates.authorityLifetime=30m")
# What TLS calls a certificate that is not taken.
REFUSALS = ("UnknownIssuer", "BadSignature", "UnknownCA", "DecryptError", "CertificateExpired", "Expired", "NotValidYet")


def run(t: Scenario) -> None:
    user(t, "create-user", "first", "--secret", "first-secret", "--role", "admin")
    t.undo(lambda: user(t, "delete-user", "first", ok=(0, 1)))
    t.undo(lambda: user(t, "delete-user", "second", ok=(0, 1)))
    t.secret(key="first", secret="first-secret")
    operator = Operator(t, *(word for value in SHORT for word in ("--set", value)))
    job = Job(t, 4_500_000)
    job.apply(replicas=2)
    job.settled(2)
    check = unchanged(job)

    def undisturbed(when: str) -> None:
        for _ in range(2):
            job.goes_on(30)
        check(when)
        t.check(job.status().get("restarts", 0) == 0, f"{when}: {job.status()}")
        nobody_refused(t, operator, job, when)

    first, issued = authority(t, operator), certificate(t, job)
    t.check(set(first) == {"tls.crt", "tls.key"}, f"the first authority has {sorted(first)}")
    t.kubectl("annotate", "secret", f"weir-authority-{t.namespace}", "-n", operator.namespace, "weir.dev/rotate=once", namespace=False)
    t.until("the next authority is there", lambda: "next.crt" in authority(t, operator), 40)
    began = time.monotonic()
    t.check(authority(t, operator)["tls.crt"] == first["tls.crt"], "it issues at once")
    following = authority(t, operator)["next.crt"]
    t.until("the job trusts both", lambda: certificate(t, job)["ca.crt"] == first["tls.crt"] + following, 40)
    operator.kill()
    undisturbed("the next one is trusted")

    user(t, "create-user", "second", "--secret", "second-secret", "--role", "admin")
    t.secret(key="second", secret="second-secret")
    given = time.monotonic()

    t.until("the next authority issues", lambda: authority(t, operator)["tls.crt"] == following, STEP_SECONDS_MAX)
    t.say(f"promoted {time.monotonic() - began:.0f} s after it was added")
    t.check(set(authority(t, operator)) == {"tls.crt", "tls.key", "previous.crt"}, f"{sorted(authority(t, operator))}")
    t.until("the job has a certificate of it", lambda: certificate(t, job)["tls.crt"] != issued["tls.crt"], 40)
    operator.kill()
    undisturbed("the next one issues")

    time.sleep(max(0, given + ROTATED_SECONDS_MAX - time.monotonic()))
    user(t, "delete-user", "first")
    t.say("the old credentials are nobody's")
    for _ in range(3):
        job.goes_on(20)
    t.check(job.condition("CheckpointsHealthy").get("status") == "True", f"{job.status()}")

    t.until("the first authority is trusted no more", lambda: set(authority(t, operator)) == {"tls.crt", "tls.key"}, STEP_SECONDS_MAX)
    t.say(f"rotated within {time.monotonic() - began:.0f} s")
    t.until("nor by the job", lambda: certificate(t, job)["ca.crt"] == following, 40)
    # Until each worker has read that, and then without what was open before.
    time.sleep(ROTATED_SECONDS_MAX)
    operator.kill()
    undisturbed("the first one is gone")

    # Somebody deletes the job's secret: those who run go on, and who comes needs it.
    t.kubectl("delete", "secret", f"{job.name}-weir-tls")
    job.scale(3)
    job.settled(3)
    nobody_refused(t, operator, job, "three workers")
    logs = "".join(t.logs(pod) for pod in job.pods())
    t.check("-secret" not in logs and "-secret" not in str(job.status()), "credentials are in a log or in the status")
    job.finish()
    operator.check_rights()


def nobody_refused(t: Scenario, operator: Operator, job: Job, when: str) -> None:
    logs = {pod: t.logs(pod) for pod in job.pods()}
    logs |= {pod: t.kubectl("logs", "-n", operator.namespace, pod, namespace=False) for pod in operator.pods("Running")}
    for pod, log in logs.items():
        found = [line for line in log.splitlines() if any(word in line for word in REFUSALS)]
        t.check(not found, f"{when}: {pod} refused somebody, or was refused: {found[:3]}")


def authority(t: Scenario, operator: Operator) -> dict[str, bytes]:
    return api.secret(operator.namespace, f"weir-authority-{t.namespace}")


def certificate(t: Scenario, job: Job) -> dict[str, bytes]:
    return api.secret(t.namespace, f"{job.name}-weir-tls")


def user(t: Scenario, verb: str, name: str, *words: str, ok: tuple[int, ...] = (0,)) -> None:
    shell.run("versitygw", "admin", "--access", t.s3.key, "--secret", t.s3.secret, "--endpoint-url", t.s3.endpoint,
              verb, "--access", name, *words, ok=ok)
