"""The binary on this machine: as an operator beside the cluster, and for one command."""

import json
import os
import signal
import subprocess
from pathlib import Path

from . import shell
from .scenario import IMAGE, Scenario
from .shell import ROOT, STATE

BINARY = os.environ.get("WEIR_BINARY", str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/weir"))
END_SECONDS_MAX = 20


def define(t: Scenario) -> None:
    """The resource definitions as the binary prints them."""
    t.kubectl("apply", "--server-side", "-f", "-", text=shell.run(BINARY, "crd").stdout, namespace=False)
    t.undo(lambda: t.kubectl("delete", "crd", "statefuljobs.weir.dev", "jobsnapshots.weir.dev", "--ignore-not-found", namespace=False))
    t.kubectl("wait", "--for=condition=Established", "crd/statefuljobs.weir.dev", "--timeout=30s", namespace=False)


class OperatorProcess:
    """`weir operator` as a process of this machine. Without a kubeconfig of its own it may do all."""

    def __init__(self, t: Scenario, namespace: str, *words: str, log: str = "operator") -> None:
        self.words = [BINARY, "operator", "--namespace", namespace, "--worker-image", IMAGE, "--probes", "127.0.0.1:0", *words]
        self.log = STATE / f"log/{log}.log"
        self.process: subprocess.Popen | None = None
        t.undo(self.kill)

    def start(self, **env: str) -> int:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self.words, stdout=log, stderr=log, env=os.environ | env)
        return self.process.pid

    def is_dead(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self.process:
            self.process.send_signal(how)
            self.process.wait(END_SECONDS_MAX)


def kubeconfig(server: str, token: str, name: str) -> Path:
    """A file that leads to an API server by plain HTTP, as somebody."""
    file = STATE / f"{name}.kubeconfig"
    file.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}))
    return file
