"""Both charts by Helm, with their rights alone: a job from bucket to bucket, its leader deleted; what an uninstall leaves."""

import json

from harness import flights, shell
from harness.scenario import IMAGE, OPERATOR, Scenario
from harness.shell import ROOT

DEADLINE_SECONDS = 300
OWN = "e2e-install-system"   # as t.namespace_beside names it
ACCOUNT = f"--as=system:serviceaccount:{OWN}:weir"
ROWS_A_SECOND = 10_000

ENDLESS = """
apiVersion: weir.dev/v1alpha1
kind: StatefulJob
metadata: {{name: endless}}
spec:
  state: {{uri: {uri}, memory: 64Mi, store: {store}}}
  worker: {{resources: {{requests: {{cpu: 50m, memory: 64Mi}}}}}}
  pipeline:
    - {{id: made, source: {{generate: {{keys: {{distinct: 10}}, rate: 100}}}}}}
    - {{id: sums, from: made, aggregate: {{key: [key], values: [count(*) as n]}}}}
    - {{id: out, from: sums, sink: {{blackhole: {{}}}}}}
"""

SNAPSHOT = """
apiVersion: weir.dev/v1alpha1
kind: JobSnapshot
metadata: {name: kept}
spec: {jobRef: {name: endless}, deletionPolicy: Delete}
"""


def run(t: Scenario) -> None:
    install(t)
    check_rights(t)
    secret = t.secret()
    lose_the_leader(t, secret)
    workers = lose_all_operators(t, secret)
    come_back(t, workers)
    t.kubectl("delete", "namespace", t.namespace, "--timeout=90s", namespace=False)
    t.check(t.bucket.keys("state/"), "the state went with the namespace")
    t.say("a namespace with jobs goes without an operator; the state stays")


def lose_the_leader(t: Scenario, secret: str) -> None:
    t.apply(job(t, secret))
    t.kubectl("wait", "--for=condition=Ready", "sj/flights", "--timeout=60s")
    t.check(phase(t) == "Running", f"it is {phase(t)}, not Running")
    first, workers, generation = leader(t), pods(t), status(t)["generation"]
    t.check(first in operators(t), f"{first} is none of {operators(t)}")

    # Its log goes with it.
    check_log(t, first)
    t.kubectl("delete", "pod", first, "-n", OWN, "--wait=false", namespace=False)
    t.say(f"the leader {first} is deleted")
    t.until("it has finished", lambda: phase(t) == "Finished", 120)
    t.check(leader(t) != first, "nobody took the job over before its end")
    t.check(status(t)["generation"] == generation, "the next leader began a new generation")
    flights.assert_output(t)
    t.say(f"{leader(t)} took it over, on the same {len(workers)} workers")


def lose_all_operators(t: Scenario, secret: str) -> list[str]:
    """Uninstalls with a job finished and one running; the workers of that one."""
    store = json.dumps(t.store() | {"secretRef": {"name": secret}})
    t.apply(ENDLESS.format(uri=t.bucket.uri("state/endless"), store=store))
    t.kubectl("wait", "--for=condition=Ready", "sj/endless", "--timeout=60s")
    t.apply(SNAPSHOT)
    t.kubectl("wait", "--for=condition=Ready", "jsnap/kept", "--timeout=60s")
    t.check(t.get("jsnap", "kept")["metadata"].get("finalizers"), "nothing holds the snapshot")
    t.kubectl("patch", "sj", "flights", "--type=merge", "-p", '{"spec":{"deletionPolicy":"Delete"}}')
    t.until("the finalizer is there", lambda: t.get("sj", "flights")["metadata"].get("finalizers"))
    workers = pods(t)
    uninstall(t)
    t.check(t.get("crd", "statefuljobs.weir.dev"), "the definition went with its chart")
    t.check(t.get("sj", "endless") and phase(t) == "Finished", "jobs went with the charts")
    t.check(pods(t) == workers, f"workers {workers} became {pods(t)}")
    flights.assert_output(t)
    t.say("definition, jobs, workers and output are still there")
    delete_without_operator(t)
    return workers


def come_back(t: Scenario, workers: list[str]) -> None:
    """Another release takes over what runs, with rights in this namespace alone, and goes again."""
    before = t.get("sj", "endless")["status"]
    start(t, "--set", f"watchNamespaces={{{t.namespace}}}")
    t.refused("auth", "can-i", "get", "pods", "-n", "default", ACCOUNT)
    # By itself a status says so only every 30 s.
    t.kubectl("annotate", "sj", "endless", "weir.dev/checkpoint=back")
    t.until("the job goes on", lambda: t.get("sj", "endless")["status"].get("acknowledged", {}).get("checkpoint") == "back")
    t.check(t.get("sj", "endless")["status"]["generation"] == before["generation"], "a new operator began a new generation")
    t.check(pods(t) == workers, f"workers {workers} became {pods(t)}")
    uninstall(t)


def install(t: Scenario) -> None:
    t.check(t.namespace_beside("system") == OWN, f"the operator's namespace is not {OWN}")
    t.helm("install", "weir-crds", ROOT / "charts/weir-crds", "-n", OWN, "--wait")
    t.crds_are_there()
    t.undo(lambda: t.helm("uninstall", "weir", "-n", OWN, "--ignore-not-found", "--wait"))
    start(t)


def start(t: Scenario, *values: str) -> None:
    repository, _, tag = IMAGE.rpartition(":")
    image = ("--set", f"image.repository={repository}", "--set", f"image.tag={tag}")
    t.helm("install", "weir", ROOT / "charts/weir", "-n", OWN, "--wait", "--timeout=90s", *image, *values)
    t.check(len(operators(t)) == 2, f"operators: {operators(t)}")
    t.say("two operators are there")


def uninstall(t: Scenario) -> None:
    for operator in operators(t):
        check_log(t, operator)
    held = (t.get("sj", "flights") or {}).get("metadata", {}).get("finalizers")
    done = shell.run("helm", "uninstall", "weir", "-n", OWN, "--wait", "--timeout=120s")
    if held:
        t.contains(done.stdout + done.stderr, f"weir state gc {t.bucket.uri('state/flights')}  # {t.namespace}/flights")
    t.helm("uninstall", "weir-crds", "-n", OWN, "--wait", "--ignore-not-found")
    t.until("no operator is left", lambda: not operators(t))


def delete_without_operator(t: Scenario) -> None:
    """The uninstall let go of the job: it can be deleted, and its state is still there."""
    for kind, name in (("sj", "flights"), ("jsnap", "kept")):
        t.check(not t.get(kind, name)["metadata"].get("finalizers"), f"the uninstall left a finalizer on {kind} {name}")
    t.kubectl("delete", "sj", "flights", "--timeout=20s")
    t.check(t.bucket.keys("state/flights/"), "its state is gone")


def check_rights(t: Scenario) -> None:
    """A few that an operator must not have; those that it needs it shows by working."""
    for verb, what in [("list", "secrets"), ("watch", "secrets"), ("delete", "secrets"), ("update", "statefuljobs.weir.dev"),
                       ("delete", "statefuljobs.weir.dev"), ("update", "pods"), ("get", "leases.coordination.k8s.io")]:
        t.refused("auth", "can-i", verb, what, ACCOUNT)
    t.refused("auth", "can-i", "create", "pods", "--subresource=exec", ACCOUNT)

    # What view and edit of a namespace give to its users.
    def may(role: str, *words: str) -> bool:
        return t.kubectl_run("auth", "can-i", *words, f"--as={role}-of-{t.namespace}", ok=(0, 1)).returncode == 0

    for role in ("view", "edit"):
        t.kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}-of-{t.namespace}")
    t.until("editors may scale jobs", lambda: may("edit", "patch", "statefuljobs.weir.dev", "--subresource=scale"), 30)
    t.check(may("edit", "create", "statefuljobs.weir.dev"), "editors may not create jobs")
    t.check(may("view", "list", "statefuljobs.weir.dev"), "viewers may not list jobs")
    t.check(not may("view", "patch", "statefuljobs.weir.dev"), "viewers may change jobs")


def job(t: Scenario, secret: str) -> str:
    """The flights job with a state in the bucket, and small workers."""
    store = json.dumps(t.store() | {"secretRef": {"name": secret}})
    state = f"  state: {{uri: {t.bucket.uri('state/flights')}, memory: 64Mi, store: {store}}}\n"
    worker = "  worker: {resources: {requests: {cpu: 50m, memory: 128Mi}}}\n"
    text = flights.manifest(t, ROWS_A_SECOND, secret)
    t.check(text.count("spec:\n") == 1, "examples/flights.yaml has no spec, or two")
    return text.replace("spec:\n", "spec:\n" + state + worker)


def status(t: Scenario) -> dict:
    return (t.get("sj", "flights") or {}).get("status", {})


def phase(t: Scenario) -> str:
    return status(t).get("phase", "")


def operators(t: Scenario) -> list[str]:
    found = json.loads(t.kubectl("get", "pods", "-n", OWN, "-l", OPERATOR, "-o", "json", namespace=False))["items"]
    return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


def leader(t: Scenario) -> str:
    """The pod of the operator that said last what has become of the job: `reportingInstance` is it and six characters."""
    found = json.loads(t.kubectl("get", "events.events.k8s.io", "-o", "json"))["items"]
    said = [event for event in found if event["regarding"].get("name") == "flights" and event.get("reportingInstance")]
    newest = max(said, key=lambda event: event["eventTime"] or "", default={})
    return newest.get("reportingInstance", "").rpartition("-")[0]


def pods(t: Scenario) -> list[str]:
    living = [pod for pod in t.pods("app.kubernetes.io/component=worker") if "deletionTimestamp" not in pod["metadata"]]
    return sorted(pod["metadata"]["name"] for pod in living)


def check_log(t: Scenario, operator: str) -> None:
    log = t.kubectl("logs", "-n", OWN, operator, namespace=False)
    t.check("forbidden" not in log, f"{operator} was refused something: {log[-2000:]}")
