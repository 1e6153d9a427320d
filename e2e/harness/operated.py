"""The operator by its charts, with exactly their rights, and a job whose output is known to the row."""

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path

from .scenario import CRDS, IMAGE, OPERATOR, Scenario
from .shell import ROOT

CHARTS = ROOT / "charts"
KEYS = 100
WINDOW_ROWS = 1_000


class Operator:
    """Both charts, in the namespace `<the scenario's>-system`; they go however the scenario ends."""

    def __init__(self, t: Scenario, *values: str, replicas: int = 2, charts: Path = CHARTS) -> None:
        self.t, self.namespace, self.charts = t, t.namespace_beside("system"), charts
        own = self.namespace
        # Its jobs are gone by then, so there is nothing to let go of.
        t.undo(lambda: t.helm("uninstall", "weir", "-n", own, "--ignore-not-found", "--no-hooks"))
        t.undo(self.delete_jobs)
        t.helm("install", "weir-crds", self.charts / "weir-crds", "-n", own, "--take-ownership", "--wait")
        t.kubectl("wait", "--for=condition=Established", *(f"crd/{crd}" for crd in CRDS), "--timeout=30s", namespace=False)
        self.helm("install", "--set", f"replicas={replicas}", *values)
        t.check(len(self.pods()) == replicas, f"operators: {self.pods()}")
        t.say(f"operators: {replicas}")

    def delete_jobs(self) -> None:
        """All jobs and snapshots with their definitions, whatever holds them."""
        changes = {"jsnap": '{"metadata":{"finalizers":null}}',
                   "sj": '{"spec":{"deletionPolicy":"Retain"},"metadata":{"finalizers":null}}'}
        for crd, kind in zip(CRDS, ["sj", "jsnap"]):
            if not self.t.kubectl("get", "crd", crd, "--ignore-not-found", "-o", "name", namespace=False).strip():
                continue
            where = '{range .items[?(@.metadata.finalizers)]}{.metadata.namespace}{" "}{.metadata.name}{"\\n"}{end}'
            held = self.t.kubectl("get", kind, "-A", "-o", f"jsonpath={where}", namespace=False)
            for namespace, _, name in (line.partition(" ") for line in held.splitlines()):
                self.t.kubectl_run("patch", kind, name, "-n", namespace, "--type=merge", "-p", changes[kind], namespace=False, ok=(0, 1))
            self.t.kubectl("delete", "crd", crd, "--timeout=60s", namespace=False)

    def helm(self, verb: str, *values: str) -> None:
        repository, _, tag = IMAGE.rpartition(":")
        image = ("--set", f"image.repository={repository}", "--set", f"image.tag={tag}", *values)
        self.t.helm(verb, "weir", self.charts / "weir", "-n", self.namespace, "--wait", "--timeout=90s", *image)

    def upgrade(self) -> None:
        """To the charts and the image of now, as docs/reference/operator.md says."""
        self.charts = CHARTS
        self.t.helm("upgrade", "weir-crds", self.charts / "weir-crds", "-n", self.namespace, "--wait")
        self.helm("upgrade")

    def pods(self, phase: str = "") -> list[str]:
        found = json.loads(self.t.kubectl("get", "pods", "-n", self.namespace, "-l", OPERATOR, "-o", "json", namespace=False))
        living = [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]
        return sorted(pod["metadata"]["name"] for pod in living if phase in ("", pod["status"].get("phase")))

    def scale(self, replicas: int) -> None:
        self.t.kubectl("scale", "deployment/weir", "-n", self.namespace, f"--replicas={replicas}", namespace=False)
        self.t.until(f"{replicas} operators run", lambda: len(self.pods()) == replicas)

    def kill(self) -> None:
        """kill -9 of every operator's process. Other pods come, since a kubelet lets containers that die often wait."""
        for pod in self.pods("Running"):
            self.kill_one(pod)

    def kill_one(self, pod: str) -> None:
        self.t.signal(pod, "KILL", containing="operator", namespace=self.namespace)
        self.t.kubectl("delete", "pod", pod, "-n", self.namespace, "--wait=false", "--grace-period=0", "--force", namespace=False)

    def leader(self, job: str) -> str:
        """The pod that said last what has become of a job: `reportingInstance` is it and six characters."""
        found = json.loads(self.t.kubectl("get", "events.events.k8s.io", "-o", "json"))["items"]
        said = [event for event in found if event["regarding"].get("name") == job and event.get("reportingInstance")]
        newest = max(said, key=lambda event: event["eventTime"] or "", default={})
        return newest.get("reportingInstance", "").rpartition("-")[0]

    def lease_holder_of_all(self) -> str | None:
        """The pod that holds the leases of all shards, if one does."""
        found = json.loads(self.t.kubectl("get", "leases", "-n", self.namespace, "-o", "json", namespace=False))["items"]
        holders = {one["spec"].get("holderIdentity", "") for one in found if one["metadata"]["name"].startswith("weir-shard-")}
        return holders.pop().rpartition("-")[0] if len(holders) == 1 else None

    def check_rights(self) -> None:
        """Nobody was refused anything."""
        for pod in self.pods("Running"):
            log = self.t.kubectl("logs", "-n", self.namespace, pod, namespace=False)
            self.t.check("forbidden" not in log, f"{pod} was refused something: {log[-2000:]}")


class Job:
    """Numbers from 0 on, as they come, and counted by key in windows of 1,000 of them: a row that is lost, comes twice
    or is late shows in one or the other. It ends when `rate` is taken away."""

    def __init__(self, t: Scenario, rows: int, *, name: str = "counts", rate: int = 5_000, **spec: object) -> None:
        self.t, self.name, self.rows, self.rate = t, name, rows, rate
        self.store = t.store() | {"secretRef": {"name": "s3"}}
        self.spec: dict = {
            "replicas": 1,
            "checkpoint": {"interval": "1s"},
            "worker": {"resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}},
        } | spec

    def manifest(self) -> dict:
        uri = self.t.bucket.uri
        source = {"sequence": {"count": self.rows, "every": "1ms"}} | ({"rate": self.rate} if self.rate else {})
        state = {"uri": uri(f"state/{self.name}"), "memory": "64Mi", "store": self.store}
        return {"apiVersion": "weir.dev/v1alpha1", "kind": "StatefulJob", "metadata": {"name": self.name}, "spec": {
            "state": state,
            "pipeline": [
                {"id": "made", "source": {"generate": source}},
                {"id": "keyed", "from": "made", "select": ["seq", f"seq % {KEYS} as k"]},
                {"id": "rows", "from": "keyed", "sink": {"files": {"uri": uri(f"out/{self.name}/rows"), "format": "ndjson", "store": self.store}}},
                {"id": "sums", "from": "keyed", "aggregate": {
                    "key": ["k"], "window": {"tumble": "1s"}, "values": ["count(*) as n", "sum(seq) as s"]}},
                {"id": "out", "from": "sums", "sink": {"files": {"uri": uri(f"out/{self.name}/sums"), "format": "ndjson", "store": self.store}}},
            ],
        } | copy.deepcopy(self.spec)}

    def with_bad_row(self, at: int) -> dict:
        """As it is, with a row that can't be computed."""
        manifest = self.manifest()
        manifest["spec"]["pipeline"][1]["select"][0] = f"seq + 0 / (seq - {at}) as seq"
        return manifest

    def apply(self, **spec: object) -> None:
        """Applies it, with these fields of its spec changed for good."""
        self.spec |= spec
        self.t.apply(self.manifest())

    def change(self, patch: dict) -> None:
        self.t.kubectl("patch", "sj", self.name, "--type=merge", "-p", json.dumps({"spec": patch}))

    def scale(self, replicas: int) -> None:
        self.t.kubectl("scale", "sj", self.name, f"--replicas={replicas}")
        self.spec["replicas"] = replicas

    def ask(self, what: str, value: str, seconds: float = 60) -> None:
        """Asks for a `checkpoint` or a `restart` by its annotation, and waits until it is acknowledged."""
        self.annotate(what, value)
        self.t.until(f"{what} {value} of {self.name} is acknowledged", lambda: self.acknowledged(what) == value, seconds)

    def annotate(self, what: str, value: str) -> None:
        self.t.kubectl("annotate", "sj", self.name, f"weir.dev/{what}={value}", "--overwrite")

    # --- looking ---

    def acknowledged(self, what: str) -> str | None:
        return self.status().get("acknowledged", {}).get(what)

    def status_written(self) -> str:
        """When the operator wrote the status last."""
        managed = self.t.get("sj", self.name)["metadata"]["managedFields"]
        return next(one["time"] for one in managed if one["manager"] == "weir-operator-status")

    def status(self) -> dict:
        return (self.t.get("sj", self.name) or {}).get("status", {})

    def phase(self) -> str:
        return self.status().get("phase", "")

    def condition(self, kind: str = "Ready") -> dict:
        return next((one for one in self.status().get("conditions", []) if one["type"] == kind), {})

    def generation(self) -> int:
        return self.status().get("generation", 0)

    def pods(self) -> list[str]:
        """Its workers that nobody has told to end."""
        return sorted(pod["metadata"]["name"] for pod in self.pod_objects())

    def pod_objects(self, component: str = "worker") -> list[dict]:
        found = self.t.pods(f"app.kubernetes.io/component={component},weir.dev/job={self.name}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def output(self) -> list[str]:
        """Its files of rows that are committed."""
        return self.t.bucket.published(f"out/{self.name}/rows")

    def on_node(self, node: str) -> list[str]:
        return sorted(pod["metadata"]["name"] for pod in self.pod_objects() if pod["spec"].get("nodeName") == node)

    # --- waiting ---

    def settled(self, replicas: int | None = None, seconds: float = 60) -> None:
        """Waits until it is as it was asked to be: ready, on so many workers, and no pod more. A job that comes back
        from a loss is ready all the while, so with `replicas` nothing may be under way any more."""
        self.t.until(f"{self.name} is ready" + (f" on {replicas}" if replicas else ""), lambda: self.is_settled(replicas), seconds)

    def is_settled(self, replicas: int | None = None) -> bool:
        found = self.t.get("sj", self.name) or {"metadata": {}}
        seen = found.get("status", {})
        ready = any(one["type"] == "Ready" and one["status"] == "True" for one in seen.get("conditions", []))
        is_now = seen.get("observedGeneration") == found["metadata"].get("generation")
        is_whole = seen.get("phase") == "Running" and seen.get("replicas") == replicas
        return ready and is_now and (replicas is None or (is_whole and len(self.pods()) == replicas))

    def says(self, reason: str, kind: str = "Ready", seconds: float = 60) -> str:
        """Waits until a condition has this reason; what it says."""
        self.t.until(f"{self.name} says {reason}", lambda: self.condition(kind).get("reason") == reason, seconds)
        return self.condition(kind).get("message", "")

    def goes_on(self, seconds: float = 60) -> None:
        """Waits for output that is not there yet: what was read since now, committed."""
        before = set(self.output())
        self.t.until(f"new output of {self.name}", lambda: set(self.output()) - before, seconds)

    def finish(self, seconds: float = 120) -> None:
        """Lets it run as fast as it can, to its end, and checks every row."""
        self.rate = 0
        self.apply()
        self.t.until(f"{self.name} has finished", lambda: self.phase() == "Finished", seconds)
        self.assert_output()

    def assert_output(self) -> None:
        """Every number once, every window whole."""
        began = time.monotonic()
        seen = sorted(row["seq"] for row in self.t.bucket.rows(f"out/{self.name}/rows"))
        twice = [a for a, b in zip(seen, seen[1:]) if a == b]
        lost = sorted(set(range(self.rows)) - set(seen))
        self.t.check(not twice and not lost and len(seen) == self.rows,
                     f"{len(seen)} rows of {self.rows}; {len(twice)} twice, as {twice[:5]}; {len(lost)} lost, as {lost[:5]}")
        # Event time begins at some time of its own: windows are compared by what is in them.
        sums = self.t.bucket.rows(f"out/{self.name}/sums")
        windows: dict[str, list[dict]] = {}
        for row in sums:
            windows.setdefault(row["window_start"], []).append(row)
        wrong = [start for start, rows in windows.items() if len({row["k"] for row in rows}) != len(rows)]
        self.t.check(not wrong, f"a key is there twice in windows {wrong[:5]}")
        n, s = sum(row["n"] for row in sums), sum(row["s"] for row in sums)
        self.t.check(n == self.rows and s == self.rows * (self.rows - 1) // 2, f"{n} rows with the sum {s} in the windows")
        by_key = dict.fromkeys(range(KEYS), 0)
        for row in sums:
            by_key[row["k"]] += row["n"]
        off = {k: n for k, n in by_key.items() if n != len(range(k, self.rows, KEYS))}
        self.t.check(not off, f"keys with the wrong count: {off}")
        at_most = -(-self.rows // WINDOW_ROWS) + 1
        self.t.check(len(windows) <= at_most, f"{len(windows)} windows, at most {at_most} can be")
        self.t.say(f"{self.rows} rows are there once, in {len(windows)} windows too ({time.monotonic() - began:.1f} s to look)")


def unchanged(*jobs: Job) -> Callable[[str], None]:
    """A check, for later, that no job got other pods or another generation since now. It is told what was done."""
    before = [(job, job.pods(), job.generation()) for job in jobs]

    def check(what: str) -> None:
        for job, pods, generation in before:
            job.t.check(job.pods() == pods, f"{what}: pods {pods} of {job.name} became {job.pods()}")
            job.t.check(job.generation() == generation, f"{what}: generation {generation} of {job.name} became {job.generation()}")
    return check


def started(t: Scenario, rows: int, replicas: int, *values: str, **spec: object) -> tuple[Operator, Job]:
    """The operator with these values of its chart, and a job that is as it was asked to be."""
    t.secret()
    operator, job = Operator(t, *values), Job(t, rows, replicas=replicas, **spec)
    job.apply()
    job.settled(replicas)
    return operator, job
