"""The kubelet of nodes that run nothing (kwok): it gives each worker's pod the binary as a plain process at an address of its
own. A thousand of them fit where a thousand containers do not."""

import contextlib
import http.client
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp

from . import api, shell
from .scenario import Scenario
from .shell import BINARY, STATE, Failed

PORT, PROBES = 7410, 7411
END_SECONDS_MAX = 30
START_SECONDS_MAX = 60
AT_ONCE = 32


class Workers:
    """Of all jobs in the scenario's namespace. A pod's volumes are folders, its variables those that it names."""

    def __init__(self, t: Scenario) -> None:
        self.t, self.ended = t, False
        self.processes: dict[str, subprocess.Popen] = {}
        self.ending: set[str] = set()
        self.folder = Path(mkdtemp(prefix="workers-", dir=STATE))
        self.trouble: list[str] = []
        self.pool = ThreadPoolExecutor(AT_ONCE)
        threading.Thread(target=self._follow, daemon=True).start()
        t.undo(self._end)

    def _follow(self) -> None:
        path = api.place("pod", self.t.namespace) + "?labelSelector=app.kubernetes.io/component=worker"
        number = 256
        while not self.ended:
            with self._noted():
                for kind, pod in api.watch(path):
                    uid = pod["metadata"]["uid"]
                    if uid not in self.processes and kind != "DELETED" and pod["spec"].get("nodeName"):
                        number += 1
                        self.processes[uid] = self._start(pod, f"10.246.{number >> 8}.{number & 255}")
                    if kind != "DELETED" and "deletionTimestamp" in pod["metadata"] and uid not in self.ending:
                        self.ending.add(uid)
                        self._later(self._stop, pod)

    def _later(self, do, *words: object) -> None:
        def done() -> None:
            with self._noted():
                do(*words)

        self.pool.submit(done)

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """What goes wrong in another thread is told by the scenario, until all of it ends."""
        try:
            yield
        except Exception as error:
            if not self.ended:
                self.trouble.append(f"{type(error).__name__}: {error}")

    def _start(self, pod: dict, address: str) -> subprocess.Popen:
        container = pod["spec"]["containers"][0]
        secrets = {volume["name"]: volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if "secret" in volume}
        own = self._secret(secrets.pop("tls"))
        for name in secrets.values():
            if not (self.folder / "stores" / name).exists():
                self._secret(name, self.folder / "stores")
        env = {one["name"]: one["value"] for one in container["env"] if "value" in one}
        named = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one}
        env |= {name: (self.folder / "tls" / at["name"] / at["key"]).read_text() for name, at in named.items()}
        places = {"--listen": f"{address}:{PORT}", "--tls": str(own), "--stores": str(self.folder / "stores")}
        words = list(container["args"])
        for flag, value in places.items():
            words[words.index(flag) + 1] = value
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen([BINARY, *words, "--probes", f"{address}:{PROBES}"], env=os.environ | env,
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._later(self._ready, pod, address)
        return process

    def _ready(self, pod: dict, address: str) -> None:
        """Says that it runs once it says so itself."""
        began = time.monotonic()
        while not _is_ready(address):
            if time.monotonic() - began > START_SECONDS_MAX:
                raise Failed(f"{pod['metadata']['name']} is not ready after {START_SECONDS_MAX} s")
            time.sleep(0.1)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        container = pod["spec"]["containers"][0]
        api.ask("PATCH", f"{self._path(pod)}/status", {"metadata": {"uid": pod["metadata"]["uid"]}, "status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "startTime": now,
            "conditions": [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("Ready", "ContainersReady", "Initialized")],
            "containerStatuses": [{"name": container["name"], "image": container["image"], "imageID": "", "ready": True, "restartCount": 0,
                                   "state": {"running": {"startedAt": now}}}]}}, "application/merge-patch+json")

    def _stop(self, pod: dict) -> None:
        process = self.processes[pod["metadata"]["uid"]]
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        api.ask("DELETE", self._path(pod), {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}})

    def _path(self, pod: dict) -> str:
        return f"{api.place('pod', self.t.namespace)}/{pod['metadata']['name']}"

    def _secret(self, name: str, below: Path | None = None) -> Path:
        """A secret as files."""
        folder = (below or self.folder / "tls") / name
        folder.mkdir(parents=True, exist_ok=True)
        for key, value in api.secret(self.t.namespace, name).items():
            (folder / key).write_bytes(value)
        return folder

    def lost(self) -> list[str]:
        """Those that ended without being told to."""
        return [uid for uid, process in self.processes.items() if uid not in self.ending and process.poll() is not None]

    def _end(self) -> None:
        self.ended = True
        for process in list(self.processes.values()):
            process.kill()
        for process in list(self.processes.values()):
            process.wait(END_SECONDS_MAX)
        self.pool.shutdown(wait=False, cancel_futures=True)
        # Nobody is there any more who would say that they have ended.
        self.t.kubectl("delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false")
        shell.run("rm", "-rf", self.folder)


def _is_ready(address: str) -> bool:
    with contextlib.closing(http.client.HTTPConnection(address, PROBES, timeout=5)) as probe:
        try:
            probe.request("GET", "/readyz")
            return probe.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
