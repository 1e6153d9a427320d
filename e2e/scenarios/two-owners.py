"""Another resource, and another cluster's operator, on one state: Stalled, and told whose it is; the owner goes on, until it is taken over."""

import json

from harness.operated import Job, started, unchanged
from harness.process import OperatorProcess
from harness.scenario import Scenario

DEADLINE_SECONDS = 420


def run(t: Scenario) -> None:
    beside, far = t.namespace_beside("beside"), t.namespace_beside("far")
    for where in (beside, far):
        t.secret(namespace=where)
    _, job = started(t, 1_000_000, 2, "--set", f"watchNamespaces={{{t.namespace},{beside}}}")
    check = unchanged(job)

    # Another name can never have this state; the same name in another namespace could, if nobody had it.
    second = Job(t, 1_000_000, name="second")
    shared = second.manifest()
    shared["spec"]["state"]["uri"] = t.bucket.uri("state/counts")
    t.apply(shared)
    said = second.says("SpecRefused", "Stalled")
    t.contains(said, 'holds the state of job "counts", not of "second"')
    t.check(not second.pods(), f"it has workers: {second.pods()}")
    # Another operator for that namespace's jobs, which says that it is another cluster's.
    stranger = OperatorProcess(t, far, "--watch", far, "--cluster-id", "other", log="other-operator")
    stranger.start()
    t.undo(stranger.terminate)
    for where in (beside, far):
        t.kubectl("apply", "-n", where, "-f", "-", text=json.dumps(job.manifest()), namespace=False)
    for where in (beside, far):
        said = t.until(f"the one in {where} is stalled", lambda: ready(t, where, "StateOwnedElsewhere"), 30)
        t.contains(said, f"/{t.namespace}/counts/")
        t.check(condition(t, where, "Stalled") == "True", "it is not Stalled")
        t.check(not pods(t, where), f"it has workers: {pods(t, where)}")
        t.say(f"{where} is told: {said[:240]}")

    job.goes_on()
    check("two others came")
    # In one cluster it is seen that an owner is gone: the one behind it follows by itself. Another cluster can't know.
    t.kubectl("delete", "sj", job.name, "--timeout=60s")
    t.until("the resource beside has gone on with its state", lambda: ready(t, beside, "Running"), 90)
    t.check(not job.pods(), f"workers of the first one are left: {job.pods()}")
    said = t.until("the other cluster's is told of the new owner", lambda: of(t, far, beside), 90)

    # It is said that the owner is gone, by its name; should it run all the same, it is fenced, and ends its workers.
    owner = said.split(" is owned by ")[1].split(";")[0]
    take_over(t, far, owner)
    t.until("the other cluster's has taken it over", lambda: ready(t, far, "Running"), 90)
    t.until("who had it is told", lambda: of(t, beside, far), 90)
    t.until("its workers are gone", lambda: not pods(t, beside), 60)
    # The same word again, for an owner that is none any more, moves nothing.
    take_over(t, beside, owner)
    t.until("it is looked at", lambda: of(t, beside, far), 60)
    t.check(ready(t, far, "Running"), "the owner was disturbed")


def ready(t: Scenario, where: str, reason: str) -> str:
    """What `Ready` says, if it has this reason."""
    path = 'jsonpath={.status.conditions[?(@.type=="Ready")].reason} {.status.message}'
    found = t.kubectl("get", "sj", "counts", "-n", where, "-o", path, namespace=False)
    return found.removeprefix(reason).strip() or reason if found.startswith(f"{reason} ") else ""


def of(t: Scenario, where: str, owner: str) -> str:
    """What is said of a job whose state the one in another namespace owns."""
    said = ready(t, where, "StateOwnedElsewhere")
    return said if f"/{owner}/counts/" in said else ""


def take_over(t: Scenario, where: str, owner: str) -> None:
    patch = json.dumps({"spec": {"restoreFrom": {"takeOver": owner}}})
    t.kubectl("patch", "sj", "counts", "-n", where, "--type=merge", "-p", patch, namespace=False)


def pods(t: Scenario, where: str) -> str:
    return t.kubectl("get", "pods", "-n", where, "-o", "name", namespace=False).strip()


def condition(t: Scenario, where: str, kind: str) -> str:
    path = f'jsonpath={{.status.conditions[?(@.type=="{kind}")].status}}'
    return t.kubectl("get", "sj", "counts", "-n", where, "-o", path, namespace=False)
