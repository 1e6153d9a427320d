"""The resource definition on a real API server: by Helm, through kubectl, with its rules; it stays at an uninstall."""

import json

from harness.scenario import Scenario
from harness.shell import ROOT

DEADLINE_SECONDS = 120

# Words that YAML has more than one reading of, and a flow list, unquoted: as a user writes them.
PLAIN = """
apiVersion: weir.dev/v1alpha1
kind: StatefulJob
metadata: {name: plain}
spec:
  replicas: 2
  state: {uri: s3://bucket/plain, memory: 64Mi}
  checkpoint: {interval: 1s}
  pipeline:
    - id: flights
      source:
        files: {uri: s3://bucket/data/*.parquet}
        eventTime: {column: scheduled, delay: 24h}
    - id: flown
      from: flights
      filter: dep_delay is not null and tailnum is not null
    - id: delays
      from: flown
      aggregate:
        key: [origin]
        window: {tumble: 1h}
        values: [count(*) as flights, avg(dep_delay) as mean_delay, max(dep_delay) as worst]
    - id: out
      from: [delays]
      sink:
        files: {uri: s3://bucket/out, format: ndjson}
"""

# What the API server says of a manifest in which one text is replaced.
REFUSED = [
    ("interval: 1s", "interval: 50ms", "interval is at least 100ms"),
    ("uri: s3://bucket/plain", "uri: plain", "in a cluster a uri begins with s3:// or file://; relative ones serve `weir run`"),
    ("replicas: 2", "replicas: -1", "should be greater than or equal to"),
    ("      filter: dep_delay is not null and tailnum is not null\n", "", "a step has exactly one verb: source, filter, select, union, aggregate or sink"),
    ("memory: 64Mi", "memory: much", "memory is a quantity"),
    ("delay: 24h", "dely: 24h", 'unknown field "spec.pipeline[0].source.eventTime.dely"'),
]


def run(t: Scenario) -> None:
    chart = ROOT / "charts/weir-crds"
    t.helm("lint", "--strict", chart)
    t.helm("install", "weir-crds", chart, "-n", t.namespace, "--wait")
    t.crds_are_there()

    t.apply(PLAIN)
    stored = t.get("sj", "plain")
    steps = {step["id"]: step for step in stored["spec"]["pipeline"]}
    t.check(stored["spec"]["slots"] == 1 and stored["spec"]["checkpoint"]["retained"] == 3, f"defaults: {stored['spec']}")
    t.check(steps["delays"]["aggregate"]["values"][1] == "avg(dep_delay) as mean_delay", f"values: {steps['delays']}")
    t.check(steps["flown"]["from"] == "flights" and steps["out"]["from"] == ["delays"], f"`from`: {steps}")
    t.say("plain YAML is stored as it was meant, with the defaults")

    for old, new, sentence in REFUSED:
        t.check(PLAIN.count(old) == 1, f"the manifest has no {old}")
        said = t.refused("apply", "-f", "-", text=PLAIN.replace(old, new).replace("name: plain", "name: refused"))
        t.contains(said, sentence)
        t.say(f"refused: {said.splitlines()[-1][:200]}")
    t.check(t.get("sj", "refused") is None, "a refused job is there")
    said = t.refused("patch", "sj", "plain", "--type=merge", "-p", json.dumps({"spec": {"state": {"uri": "s3://bucket/b"}}}))
    t.contains(said, "state.uri is fixed for the job's life")
    t.say(f"refused: {said.splitlines()[-1][:200]}")

    t.contains(t.kubectl("explain", "statefuljob.spec.checkpoint.interval"), "From the start of one checkpoint")
    t.contains(t.kubectl("explain", "sj.spec", "--recursive"), "pipeline", "keyGroups", "tumble")
    columns = t.kubectl("get", "sj", "plain").splitlines()[0].split()
    t.check(columns == ["NAME", "PHASE", "REPLICAS", "CHECKPOINT", "RESTARTS", "AGE"], f"columns: {columns}")
    t.contains(t.kubectl("get", "statefuljobs", "-o", "wide").splitlines()[0], "MESSAGE")
    t.kubectl("scale", "sj/plain", "--replicas=3")
    t.check(t.get("sj", "plain")["spec"]["replicas"] == 3, "kubectl scale changed nothing")
    t.kubectl("diff", "-f", "-", text=PLAIN.replace("replicas: 2", "replicas: 3"))
    t.say("explain, columns, scale and diff")

    t.helm("uninstall", "weir-crds", "-n", t.namespace, "--wait")
    t.check(t.get("sj", "plain"), "the job went with the chart")
    t.helm("install", "weir-crds", chart, "-n", t.namespace, "--take-ownership")
    t.check(t.get("sj", "plain"), "the job went when the chart came back")
    t.helm("uninstall", "weir-crds", "-n", t.namespace)
    t.kubectl("delete", "sj", "plain")
    t.say("an uninstall keeps the definition and the jobs, and the chart can come back")
