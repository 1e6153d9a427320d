"""The binary on this machine: as an operator beside the cluster, and for one command."""

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

from . import shell
from .scenario import IMAGE, Scenario
from .shell import BINARY, STATE, Failed

END_SECONDS_MAX = 20


def define(t: Scenario) -> None:
    """The resource definitions as the binary prints them."""
    t.kubectl("apply", "--server-side", "-f", "-", text=shell.run(BINARY, "crd").stdout, namespace=False)
    t.crds_are_there()


class OperatorProcess:
    """`weir operator` as a process of this machine. Without a kubeconfig of its own it may do all. Once its scenario has
    ended none is started any more, whoever asks for one."""

    def __init__(self, t: Scenario, namespace: str, *words: str, log: str = "operator") -> None:
        self.words = [BINARY, "operator", "--namespace", namespace, "--worker-image", IMAGE, "--probes", "127.0.0.1:0", *words]
        self.log = STATE / f"log/{log}.log"
        self.process: subprocess.Popen | None = None
        self._ended, self._lock = False, threading.Lock()
        t.undo(self._end_for_good)

    def start(self, **env: str) -> int:
        with self._lock:
            if self._ended:
                raise Failed("its scenario has ended")
            with self.log.open("a") as log:
                self.process = subprocess.Popen(self.words, stdout=log, stderr=log, env=os.environ | env)
            return self.process.pid

    def is_dead(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        self._end(signal.SIGTERM)

    def _end_for_good(self) -> None:
        with self._lock:
            self._ended = True
        self.kill()

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
