"""The operator beside the cluster: rescale, failover, restarts, kill -9 of itself, suspend, delete; each row once."""

from harness.process import OperatorProcess, define
from harness.scenario import Scenario

# rescale, failover, operator-away, delete, bad-spec and cleanup show each of its parts too.
SUBSET = False
DEADLINE_SECONDS = 300
ROWS, KEYS = 200_000, 1_000
OWN = "e2e-operator-system"


def run(t: Scenario) -> None:
    secret = t.secret()
    define(t)
    t.kubectl("create", "namespace", OWN, namespace=False)
    t.undo(lambda: t.kubectl("delete", "namespace", OWN, "--ignore-not-found", "--wait=false", namespace=False))
    operator = OperatorProcess(t, OWN)
    operator.start()

    t.apply(job(t, secret))
    settled(t, 1)
    t.kubectl("scale", "sj", "counts", "--replicas=3")
    rescale = t.until("it has three workers", lambda: status(t).get("lastRescale"))
    t.check(rescale["to"]["replicas"] == 3 and rescale["pauseMs"] < 5_000, f"{rescale}")
    settled(t, 3)

    names = pods(t)
    operator.kill()
    operator.start()
    generation = status(t)["generation"]
    t.kubectl("annotate", "sj", "counts", "weir.dev/checkpoint=again")
    t.until("checkpoints go on", lambda: status(t).get("acknowledged", {}).get("checkpoint") == "again")
    t.check(status(t)["generation"] == generation, "the operator's restart made a new generation")
    t.check(pods(t) == names, f"the operator's restart changed pods: {names} to {pods(t)}")

    t.kubectl("delete", "pod", names[0], "--wait=false")
    t.until("the deleted pod is replaced", lambda: len(pods(t)) == 3 and names[0] not in pods(t))
    settled(t, 3)
    killed, generation = pods(t)[0], status(t)["generation"]
    t.signal(killed, "KILL", containing="worker")
    t.until("the killed worker is replaced", lambda: len(pods(t)) == 3 and killed not in pods(t))
    t.until("the others went on", lambda: status(t)["generation"] > generation)
    settled(t, 3)

    before = pods(t)
    t.kubectl("annotate", "sj", "counts", "weir.dev/restart=monday")
    t.until("the restart is acknowledged", lambda: status(t).get("acknowledged", {}).get("restart") == "monday")
    t.check(not set(before) & set(pods(t)), f"{before} and {pods(t)} have pods in common")

    change(t, '{"spec":{"worker":{"image":"nowhere.invalid/none:1"}}}')
    t.until("it says that pods do not start", lambda: reason(t) == "PodsNotStarting")
    change(t, '{"spec":{"worker":{"image":null}}}')
    settled(t, 3)

    change(t, '{"spec":{"suspend":true}}')
    t.until("it is suspended", lambda: status(t)["phase"] == "Suspended" and not pods(t))
    change(t, '{"spec":{"suspend":false}}')

    t.until("it has finished", lambda: status(t)["phase"] == "Finished", 120)
    rows = t.bucket.rows("out")
    t.check(len(rows) == KEYS, f"{len(rows)} keys")
    t.check(sum(row["n"] for row in rows) == ROWS, f"{sum(row['n'] for row in rows)} rows, not {ROWS}")

    change(t, '{"spec":{"deletionPolicy":"Delete"}}')
    t.until("the finalizer is there", lambda: t.get("sj", "counts")["metadata"].get("finalizers"))
    t.kubectl("delete", "sj", "counts", "--timeout=60s")
    left = [key for key in t.bucket.keys() if key.startswith("state/") and "/claims/" not in key]
    t.check(not left, f"the state is not deleted: {left}")
    t.check(t.bucket.rows("out"), "the output went with the state")


def job(t: Scenario, secret: str) -> str:
    store = f"{{endpoint: 'http://{t.s3.address}', region: us-east-1, allowHttp: true, pathStyle: true, secretRef: {{name: {secret}}}}}"
    return f"""
apiVersion: weir.dev/v1alpha1
kind: StatefulJob
metadata: {{name: counts}}
spec:
  replicas: 1
  state: {{uri: {t.bucket.uri("state")}, memory: 64Mi, store: {store}}}
  checkpoint: {{interval: 1s}}
  worker: {{resources: {{requests: {{cpu: 50m, memory: 64Mi}}}}}}
  pipeline:
    - {{id: made, source: {{generate: {{keys: {{distinct: {KEYS}, count: {ROWS}}}, rate: 2000}}}}}}
    - {{id: sums, from: made, aggregate: {{key: [key], values: [count(*) as n]}}}}
    - {{id: out, from: sums, sink: {{table: {{uri: {t.bucket.uri("out")}, key: [key], store: {store}}}}}}}
"""


def status(t: Scenario) -> dict:
    found = t.get("sj", "counts")
    return found.get("status", {}) if found else {}


def reason(t: Scenario) -> str:
    return next((one["reason"] for one in status(t).get("conditions", []) if one["type"] == "Ready"), "")


def settled(t: Scenario, replicas: int) -> None:
    def holds() -> bool:
        found = t.get("sj", "counts")
        ready = any(one["type"] == "Ready" and one["status"] == "True" for one in found.get("status", {}).get("conditions", []))
        seen = found.get("status", {})
        return ready and seen["observedGeneration"] == found["metadata"]["generation"] and seen["replicas"] == replicas

    t.until(f"it is ready on {replicas}", holds)


def pods(t: Scenario) -> list[str]:
    living = [pod for pod in t.pods("app.kubernetes.io/component=worker") if "deletionTimestamp" not in pod["metadata"]]
    return sorted(pod["metadata"]["name"] for pod in living)


def change(t: Scenario, patch: str) -> None:
    t.kubectl("patch", "sj", "counts", "--type=merge", "-p", patch)
