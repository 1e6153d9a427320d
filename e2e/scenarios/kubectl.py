"""The pages' own manifests through kubectl with the operator there: plain YAML, explain, columns, wait, scale, delete."""

import re

from harness import flights
from harness.operated import Operator
from harness.scenario import Scenario

DEADLINE_SECONDS = 240

# As a user types it: nothing is quoted that need not be.
PLAIN = """
apiVersion: weir.dev/v1alpha1
kind: StatefulJob
metadata:
  name: plain
spec:
  state: {{uri: {state}, memory: 64Mi, store: {store}}}
  checkpoint: {{interval: 500ms, minPause: 0s}}
  failover: {{within: 10m, minSurvivors: 50%}}
  worker: {{resources: {{requests: {{cpu: 50m, memory: 64Mi}}}}}}
  pipeline:
    - id: made
      source:
        generate: {{keys: {{distinct: 10, count: 40000}}, rate: 2000}}
    - id: some
      from: made
      filter: key is not null and not (seq = -1)
    - id: sums
      from: [some]
      aggregate:
        key: [key]
        values: [count(*) as n, max(seq) as last]
    - id: out
      from: sums
      sink:
        table: {{uri: {out}, key: [key], store: {store}}}
"""


def run(t: Scenario) -> None:
    secret = t.secret()
    operator = Operator(t)
    store = f"{{endpoint: {t.s3.endpoint}, region: us-east-1, allowHttp: true, pathStyle: true, secretRef: {{name: {secret}}}}}"
    text = PLAIN.format(state=t.bucket.uri("state/plain"), out=t.bucket.uri("out/plain"), store=store)
    t.kubectl("apply", "--dry-run=server", "-f", "-", text=text)
    t.kubectl("apply", "-f", "-", text=text)
    t.kubectl("wait", "--for=condition=Ready", "sj/plain", "--timeout=60s")
    t.kubectl("diff", "-f", "-", text=text)
    columns(t)
    explain(t)

    t.kubectl("scale", "sj/plain", "--replicas=2")
    t.kubectl("wait", "--for=jsonpath={.status.replicas}=2", "sj/plain", "--timeout=60s")
    t.kubectl("wait", "--for=condition=Ready", "sj/plain", "--timeout=60s")
    t.check(t.kubectl("get", "sj", "plain", "-o", "jsonpath={.status.observedGeneration}") ==
            t.kubectl("get", "sj", "plain", "-o", "jsonpath={.metadata.generation}"), "Ready speaks of an older spec")
    said = t.kubectl("describe", "sj", "plain")
    t.contains(said, "Normal", "Running", "Last Rescale", "Type:")
    t.kubectl("wait", "--for=jsonpath={.status.phase}=Finished", "sj/plain", "--timeout=120s")
    t.kubectl("wait", "--for=condition=Ready", "sj/plain", "--timeout=10s")
    rows = t.bucket.rows("out/plain")
    t.check(len(rows) == 10 and sum(row["n"] for row in rows) == 40_000, f"{rows}")
    t.say("a plain manifest is as it was meant")

    # The manifest of the examples, from bucket to bucket.
    t.apply(flights.manifest(t, None, secret).replace("spec:\n", f"spec:\n  state: {{uri: {t.bucket.uri('state/flights')}, store: {store}}}\n", 1))
    t.kubectl("wait", "--for=jsonpath={.status.phase}=Finished", "sj/flights", "--timeout=120s")
    flights.assert_output(t)

    t.contains(t.refused("apply", "-f", "-", text=text.replace("distinct: 10", "distict: 10")), 'unknown field "spec.pipeline[0].source.generate.keys.distict"')
    t.kubectl("delete", "sj", "--all", "--timeout=30s")
    t.until("no pod is left", lambda: not t.pods(), 30)
    t.check(t.bucket.keys("state/plain/"), "Retain kept no state")
    operator.check_rights()


def columns(t: Scenario) -> None:
    head, row = t.kubectl("get", "sj", "plain").splitlines()
    t.check(head.split() == ["NAME", "PHASE", "REPLICAS", "CHECKPOINT", "RESTARTS", "AGE"], f"columns: {head}")
    t.check(re.fullmatch(r"plain +Running +1 +\d+s +0 +\d+s", row.strip()), f"a row: {row}")
    head, row = t.kubectl("get", "statefuljobs", "-o", "wide").splitlines()
    t.contains(head, "MESSAGE")
    t.contains(row, "1 of 1 workers", "rows in at")


def explain(t: Scenario) -> None:
    t.contains(t.kubectl("explain", "sj"), "state lives in an object store")
    t.contains(t.kubectl("explain", "statefuljob.spec.checkpoint.interval"), "From the start of one checkpoint")
    t.contains(t.kubectl("explain", "sj.status.lastRescale"), "pauseMs", "cutWaitMs")
    t.contains(t.kubectl("explain", "sj.spec", "--recursive"), "pipeline", "keyGroups", "tumble", "deletionPolicy")
