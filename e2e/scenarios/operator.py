"""The operator beside the cluster: rescale, failover, restarts, kill -9 of itself, suspend, delete; each row once."""

from harness.operated import Job
from harness.process import OperatorProcess, define
from harness.scenario import Scenario

# rescale, failover, operator-away, delete, bad-spec and cleanup show each of its parts too.
SUBSET = False
DEADLINE_SECONDS = 300
ROWS, KEYS = 200_000, 1_000


def run(t: Scenario) -> None:
    secret = t.secret()
    define(t)
    operator = OperatorProcess(t, t.namespace_beside("system"))
    operator.start()

    # Of the harness's own job only what it knows of any.
    job = Job(t, ROWS)
    t.apply(manifest(t, secret))
    job.settled(1)
    job.scale(3)
    rescale = t.until("it has three workers", lambda: job.status().get("lastRescale"))
    t.check(rescale["to"]["replicas"] == 3 and rescale["pauseMs"] < 5_000, f"{rescale}")
    job.settled(3)

    names = job.pods()
    operator.kill()
    operator.start()
    generation = job.status()["generation"]
    job.ask("checkpoint", "again")
    t.check(job.status()["generation"] == generation, "the operator's restart made a new generation")
    t.check(job.pods() == names, f"the operator's restart changed pods: {names} to {job.pods()}")

    t.kubectl("delete", "pod", names[0], "--wait=false")
    t.until("the deleted pod is replaced", lambda: len(job.pods()) == 3 and names[0] not in job.pods())
    job.settled(3)
    killed, generation = job.pods()[0], job.status()["generation"]
    t.signal(killed, "KILL", containing="worker")
    t.until("the killed worker is replaced", lambda: len(job.pods()) == 3 and killed not in job.pods())
    t.until("the others went on", lambda: job.status()["generation"] > generation)
    job.settled(3)

    before = job.pods()
    job.ask("restart", "monday")
    t.check(not set(before) & set(job.pods()), f"{before} and {job.pods()} have pods in common")

    job.change({"worker": {"image": "nowhere.invalid/none:1"}})
    job.says("PodsNotStarting")
    job.change({"worker": {"image": None}})
    job.settled(3)

    job.change({"suspend": True})
    t.until("it is suspended", lambda: job.status()["phase"] == "Suspended" and not job.pods())
    t.apply(manifest(t, secret, ""))

    t.until("it has finished", lambda: job.status()["phase"] == "Finished", 120)
    rows = t.bucket.rows("out")
    t.check(len(rows) == KEYS, f"{len(rows)} keys")
    t.check(sum(row["n"] for row in rows) == ROWS, f"{sum(row['n'] for row in rows)} rows, not {ROWS}")

    job.change({"deletionPolicy": "Delete"})
    t.until("the finalizer is there", lambda: t.get("sj", "counts")["metadata"].get("finalizers"))
    t.kubectl("delete", "sj", "counts", "--timeout=60s")
    left = [key for key in t.bucket.keys() if key.startswith("state/") and "/claims/" not in key]
    t.check(not left, f"the state is not deleted: {left}")
    t.check(t.bucket.rows("out"), "the output went with the state")


def manifest(t: Scenario, secret: str, rate: str = ", rate: 2000") -> str:
    store = f"{{endpoint: 'http://{t.s3.address}', region: us-east-1, allowHttp: true, pathStyle: true, secretRef: {{name: {secret}}}}}"
    return f"""
apiVersion: weir.dev/v1alpha1
kind: StatefulJob
metadata: {{name: counts}}
spec:
  replicas: {1 if rate else 3}
  suspend: false
  state: {{uri: {t.bucket.uri("state")}, memory: 64Mi, store: {store}}}
  checkpoint: {{interval: 1s}}
  worker: {{resources: {{requests: {{cpu: 50m, memory: 64Mi}}}}}}
  pipeline:
    - {{id: made, source: {{generate: {{keys: {{distinct: {KEYS}, count: {ROWS}}}{rate}}}}}}}
    - {{id: sums, from: made, aggregate: {{key: [key], values: [count(*) as n]}}}}
    - {{id: out, from: sums, sink: {{table: {{uri: {t.bucket.uri("out")}, key: [key], store: {store}}}}}}}
"""
