"""What a scenario works with: its namespace, its bucket, kubectl, pods and their processes, waiting with a limit."""

import json
import os
import signal
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from . import api, rows, shell
from .s3 import S3, Bucket
from .shell import ROOT, STATE, Failed

T = TypeVar("T")
IMAGE = "weir.dev/weir:e2e"
OPERATOR = "app.kubernetes.io/name=weir"
CLUSTER = ROOT / "e2e/cluster/cluster.sh"
SERVERS = ROOT / "e2e/cluster/s3.sh"
CRDS = ("statefuljobs.weir.dev", "jobsnapshots.weir.dev")
# Nobody has this address.
NOWHERE = "http://10.244.0.200:7070"
WAIT_SECONDS = 60
POLL_SECONDS = 0.25
LOG_LINES_SHOWN = 40


class Scenario:
    """One scenario while it runs. Its namespace enforces the restricted Pod Security Standard."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.namespace = f"e2e-{name}"
        self.server, self.s3 = "s3", S3()
        self.bucket = Bucket(self.s3, self.namespace)
        self._undo: list[Callable[[], object]] = []
        self._began = time.monotonic()

    # --- life: called by the runner ---

    def prepare(self) -> None:
        self._make_namespace(self.namespace)
        self.s3.make_bucket(self.bucket.name)

    def clean_up(self) -> None:
        """Undoes what the scenario did, newest first; a step that fails does not keep the others from being done."""
        problems = []
        for undo in (*reversed(self._undo), lambda: self._delete_namespace(self.namespace, "--wait=false")):
            try:
                undo()
            except Exception as error:
                problems.append(str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}")
        if problems:
            raise Failed("clean-up: " + "; ".join(problems))

    def _make_namespace(self, name: str) -> None:
        self._delete_namespace(name, "--timeout=60s")   # of an earlier run on a kept cluster
        self.kubectl("create", "namespace", name, namespace=False)
        self.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted", namespace=False)

    def _delete_namespace(self, name: str, wait: str) -> None:
        self.kubectl("delete", "namespace", name, "--ignore-not-found", wait, namespace=False)

    def report(self) -> str:
        """What helps to see why it failed: objects, events, the ends of logs."""
        parts = [self._said("get", "statefuljobs,pods", "-o", "wide"),
                 self._said("get", "events", "--sort-by=.lastTimestamp")]
        for pod in self._pods_or_none():
            name = pod["metadata"]["name"]
            parts.append(f"log of {name}:\n" + self._said("logs", name, "--all-containers", f"--tail={LOG_LINES_SHOWN}"))
            if any(one.get("restartCount") for one in pod["status"].get("containerStatuses", [])):
                said = self._said("logs", name, "--previous", f"--tail={LOG_LINES_SHOWN}")
                parts.append(f"log of {name} before its last restart:\n{said}")
        where = '{range .items[*]}{.metadata.namespace}{" "}{.metadata.name}{"\\n"}{end}'
        operators = self._said("get", "pods", "-A", "-l", OPERATOR, "-o", f"jsonpath={where}", namespace=False)
        for namespace, _, name in (line.partition(" ") for line in operators.splitlines()):
            log = self._said("logs", "-n", namespace, name, f"--tail={LOG_LINES_SHOWN}", namespace=False)
            parts.append(f"log of operator {name}:\n{log}")
        return "\n".join(part for part in parts if part.strip())

    def _said(self, *words: object, namespace: bool = True) -> str:
        done = self.kubectl_run(*words, namespace=namespace, ok=tuple(range(256)))
        return (done.stdout + done.stderr).strip()

    def _pods_or_none(self) -> list[dict]:
        try:
            return self.pods()
        except Failed:
            return []

    def undo(self, action: Callable[[], object]) -> None:
        """Has `action` done when the scenario ends, however it ends."""
        self._undo.append(action)

    # --- saying ---

    def say(self, what: str) -> None:
        print(f"    {time.monotonic() - self._began:6.1f} s  {what}", flush=True)

    # --- kubectl and helm ---

    def kubectl_run(self, *words: object, text: str | None = None, ok: tuple[int, ...] = (0,), namespace: bool = True,
                    seconds: float = shell.COMMAND_SECONDS_MAX):
        where = ("-n", self.namespace) if namespace else ()
        return shell.run("kubectl", *where, *words, text=text, ok=ok, seconds=seconds)

    def kubectl(self, *words: object, text: str | None = None, namespace: bool = True) -> str:
        """What kubectl printed; it has to exit with 0. `namespace=False` for what is in none."""
        return self.kubectl_run(*words, text=text, namespace=namespace).stdout

    def refused(self, *words: object, text: str | None = None) -> str:
        """What kubectl said when it failed; that it succeeds is a failure."""
        done = self.kubectl_run(*words, text=text, ok=tuple(range(256)))
        if done.returncode == 0:
            raise Failed(f"kubectl {' '.join(map(str, words))} was not refused: {done.stdout.strip()}")
        return done.stderr.strip()

    def apply(self, manifest: str | dict | list[dict]) -> None:
        """Applies YAML text as it stands, or objects."""
        self.kubectl("apply", "-f", "-", text=_text(manifest))

    def get(self, kind: str, name: str) -> dict | None:
        """The object, or nothing if there is none."""
        if kind in api.PLACES:
            return api.get(f"{api.place(kind, self.namespace)}/{name}") or None
        done = self.kubectl_run("get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def helm(self, *words: object, ok: tuple[int, ...] = (0,)) -> str:
        return shell.run("helm", *words, ok=ok).stdout

    # --- waiting and checking ---

    def until(self, what: str, probe: Callable[[], T], seconds: float = WAIT_SECONDS, every: float = POLL_SECONDS) -> T:
        """Waits until `probe` gives something true, and gives that. `what` says what is waited for."""
        began, last = time.monotonic(), None
        while time.monotonic() - began < seconds:
            last = probe()
            if last:
                self.say(f"{what} (after {time.monotonic() - began:.1f} s)")
                return last
            time.sleep(every)
        raise Failed(f"not within {seconds:.0f} s: {what}; last seen: {str(last)[:500]}")

    def until_none(self, what: str, probe: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
        """Waits until `probe` gives nothing any more; what it gave last is what is told."""
        last: list[object] = []

        def is_empty() -> bool:
            last[:] = [probe()]
            return not last[0]

        try:
            self.until(what, is_empty, seconds)
        except Failed as failed:
            raise Failed(f"{failed}; there is {str(last[0])[:500]}") from failed

    def check(self, holds: object, otherwise: str) -> None:
        if not holds:
            raise Failed(otherwise)

    def contains(self, text: str, *parts: str) -> None:
        for part in parts:
            self.check(part in text, f"{part!r} is not in: {text[-2000:]}")

    # --- pods ---

    def pods(self, selector: str = "") -> list[dict]:
        path = api.place("pod", self.namespace) + (f"?labelSelector={urllib.parse.quote(selector)}" if selector else "")
        return api.get(path)["items"]

    def logs(self, pod: str, *words: object) -> str:
        return self.kubectl("logs", pod, *words)

    def finished(self, pod: str, seconds: float = WAIT_SECONDS) -> tuple[int, str]:
        """Waits for a pod that ends; its exit code and its log."""

        def ended() -> dict | None:
            found = self.get("pod", pod)
            self.check(found, f"there is no pod {pod}")
            return found if found["status"].get("phase") in ("Succeeded", "Failed") else None

        found = self.until(f"pod {pod} ends", ended, seconds)
        return found["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], self.logs(pod)

    def processes(self, pod: str, namespace: str | None = None) -> dict[int, str]:
        """The processes of a pod's containers, as this machine numbers them, with their command lines."""
        found = json.loads(self.kubectl("get", "pod", pod, "-o", "json", "-n", namespace or self.namespace, namespace=False))
        mark = f"pod{found['metadata']['uid']}/"
        processes = {}
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and mark in (folder / "cgroup").read_text():
                    words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    processes[int(folder.name)] = words
            except (FileNotFoundError, ProcessLookupError):
                continue   # it ended meanwhile
        return {pid: words for pid, words in processes.items() if words and words != "/pause"}

    def signal(self, pod: str, name: str, containing: str = "", namespace: str | None = None) -> list[int]:
        """Sends a signal (KILL, STOP, CONT, …) to those processes of a pod whose command line contains a text."""
        found = self.processes(pod, namespace)
        hit = [pid for pid, words in found.items() if containing in words]
        self.check(hit, f"pod {pod} has no process with {containing!r}: {found}")
        for pid in hit:
            try:
                os.kill(pid, getattr(signal, f"SIG{name}"))
            except ProcessLookupError:
                pass   # it went with the container's first process
        self.say(f"SIG{name} to {len(hit)} process(es) of pod {pod}")
        return hit

    def node_is(self, node: str, state: str) -> None:
        """Makes all that runs on a node stand still (hang), as when its machine does, or go on (wake)."""
        shell.run(CLUSTER, state, node)
        self.say(f"{node}: {state}")

    def fake_nodes(self, count: int) -> None:
        """Nodes that run nothing (kwok); they go with the scenario."""
        self.undo(lambda: self.kubectl("delete", "nodes", "-l", "type=fake", namespace=False))
        shell.run(CLUSTER, "fake", count, seconds=60)

    # --- the S3 server and what is in its buckets ---

    def serve_s3(self, server: str) -> None:
        """Takes another S3 server for this scenario, `tls` or `minio`; it goes with the cluster."""
        shell.run(SERVERS, "up", server)
        self.server, self.s3 = server, {"tls": S3("10.244.0.10:7443", ca=STATE / "pki/ca.crt"),
                                        "minio": S3("10.244.0.11:9000")}[server]
        self.bucket = Bucket(self.s3, self.namespace)
        self.s3.make_bucket(self.bucket.name)

    def s3_is(self, state: str) -> None:
        """Makes the S3 server unreachable (cut), silent (hang), reachable (mend) or answer again (wake)."""
        if state in ("cut", "hang"):
            self.undo(lambda: shell.run(SERVERS, {"cut": "mend", "hang": "wake"}[state], self.server))
        shell.run(SERVERS, state, self.server)
        self.say(f"S3 server: {state}")

    def store(self) -> dict:
        """A manifest's `store` for the scenario's bucket, without credentials."""
        return {"endpoint": self.s3.endpoint, "region": "us-east-1", "allowHttp": self.s3.ca is None, "pathStyle": True}

    def secret(self, name: str = "s3", namespace: str | None = None, key: str | None = None, secret: str | None = None) -> str:
        """Makes the secret with the credentials of the scenario's bucket, or with others."""
        self.kubectl("apply", "-f", "-", "-n", namespace or self.namespace, namespace=False, text=_text({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
            "stringData": {"AWS_ACCESS_KEY_ID": key or self.s3.key, "AWS_SECRET_ACCESS_KEY": secret or self.s3.secret}}))
        return name

    def namespace_beside(self, suffix: str) -> str:
        """One more namespace, `<the scenario's>-<suffix>`, as restricted; it goes with the scenario."""
        name = f"{self.namespace}-{suffix}"
        self.undo(lambda: self._delete_namespace(name, "--wait=false"))
        self._make_namespace(name)
        return name

    def crds_are_there(self) -> None:
        """Waits until the API server serves the definitions that somebody has applied; they go with the scenario."""
        self.undo(lambda: self.kubectl("delete", "crd", *CRDS, "--ignore-not-found", "--timeout=60s", namespace=False))
        self.kubectl("wait", "--for=condition=Established", *(f"crd/{crd}" for crd in CRDS), "--timeout=30s", namespace=False)

    def put_flights(self) -> str:
        """Puts the flights of the examples into the bucket; their URI."""
        self.bucket.put("data/flights.parquet", (ROOT / "examples/data/flights.parquet").read_bytes())
        return self.bucket.uri("data/flights.parquet")

    def assert_output(self, folder: str, expected: str) -> None:
        """Compares a sink's folder with a file of e2e/expected."""
        rows.assert_same(self.bucket.rows(folder), rows.read(ROOT / "e2e/expected" / expected))
        self.say(f"{folder} is as in {expected}")


def _text(manifest: str | dict | list[dict]) -> str:
    if isinstance(manifest, str):
        return manifest
    many = manifest if isinstance(manifest, list) else [manifest]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": many})


def restricted_pod(name: str, args: list[str], *, env_from: str | None = None, env: dict[str, str] | None = None,
                   config: str | None = None, restart: str = "Never") -> dict[str, Any]:
    """A pod of Weir's image that the restricted Pod Security Standard admits: `config` is a ConfigMap at /manifest."""
    volumes: list[dict] = [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    mounts = [{"name": "data", "mountPath": "/var/lib/weir"}, {"name": "tmp", "mountPath": "/tmp"}]
    if config:
        volumes.append({"name": "manifest", "configMap": {"name": config}})
        mounts.append({"name": "manifest", "mountPath": "/manifest"})
    container = {
        "name": "weir", "image": IMAGE, "imagePullPolicy": "Never", "args": args, "volumeMounts": mounts,
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
        "envFrom": [{"secretRef": {"name": env_from}}] if env_from else [],
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                            "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "restartPolicy": restart, "automountServiceAccountToken": False, "containers": [container], "volumes": volumes,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}}}
