"""A thousand jobs under one operator, each with a real worker as a plain process: what it costs while they run, and at rest."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from harness import api, audit, shell
from harness.operated import Operator
from harness.scenario import Scenario
from harness.shell import ROOT
from harness.workers import Workers

SUBSET = False
DEADLINE_SECONDS = 1800
STEPS = [int(step) for step in os.environ.get("WEIR_SCALE_STEPS", "100,300,1000").split(",")]
# Design, section 17.
CORES_MAX, MEMORY_BYTES_MAX = 1.0, 1 << 30
IDLE_SECONDS = 60
# With less than this left on the machine, no more jobs are begun.
FREE_BYTES_MIN = 2 << 30
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """Of a process until now."""

    cpu_seconds: float
    memory_bytes: int
    at: float


def run(t: Scenario) -> None:
    shell.run(ROOT / "e2e/cluster/cluster.sh", "fake", 2, seconds=60)
    t.undo(lambda: t.kubectl("delete", "nodes", "-l", "type=fake", namespace=False))
    t.secret()
    operator = Operator(t, replicas=1)
    workers, pid = Workers(t), process(t, operator)
    there = 0
    for step in STEPS:
        began, before = time.monotonic(), cost(pid)
        t.kubectl("create", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": [
            job(t, index) for index in range(there, step)]}))
        there = step
        t.until(f"{step} jobs are ready", lambda: ready(t, "Running") == step, 120 + step * 0.6)
        after = cost(pid)
        t.say(f"{step} jobs: ready after {time.monotonic() - began:.0f} s, {after.cpu_seconds - before.cpu_seconds:.1f} s of CPU")
        measure(t, operator, pid, f"{step} jobs run")
        t.check(not workers.trouble and not workers.lost(), f"{workers.trouble[:3]}, ended: {len(workers.lost())}")
        if free_bytes() < FREE_BYTES_MIN:
            t.say(f"{free_bytes() >> 20} MiB are left: no more jobs are begun")
            break

    generations = {one["metadata"]["name"]: one["status"]["generation"] for one in jobs(t)}
    t.check(set(generations.values()) == {1}, f"generations {set(generations.values())}: workers were lost")
    restart(t, operator, there, generations)
    suspend(t, operator, process(t, operator), there)
    operator.check_rights()


def restart(t: Scenario, operator: Operator, there: int, generations: dict[str, int]) -> None:
    """Another operator takes them all over, and starts no worker anew."""
    pods = {pod["metadata"]["uid"] for pod in t.pods()}
    began = time.monotonic()
    operator.kill()
    t.until("an operator is back", lambda: len(operator.pods("Running")) == 1)
    pid = process(t, operator)
    t.until("it has all jobs", lambda: metric(t, operator, "weir_operator_jobs") >= there, 120)
    t.until("all are ready", lambda: ready(t, "Running") == there, 300)
    t.say(f"operator restarted: all are there after {time.monotonic() - began:.0f} s, {cost(pid).cpu_seconds:.1f} s of CPU")
    now = {pod["metadata"]["uid"] for pod in t.pods()}
    t.check(now == pods, f"{len(pods - now)} workers are others")
    seen = {one["metadata"]["name"]: one["status"]["generation"] for one in jobs(t)}
    t.check(seen == generations, "new generations began")


def suspend(t: Scenario, operator: Operator, pid: int, there: int) -> None:
    began, before = time.monotonic(), cost(pid)
    t.kubectl("patch", *(f"sj/{one['metadata']['name']}" for one in jobs(t)), "--type=merge", "-p", '{"spec":{"suspend":true}}')
    t.until(f"{there} jobs are suspended", lambda: ready(t, "Suspended") == there, 60 + there * 0.3)
    after = cost(pid)
    t.say(f"suspended after {time.monotonic() - began:.0f} s, {after.cpu_seconds - before.cpu_seconds:.1f} s of CPU")
    time.sleep(5)   # what belongs to it is written by then
    asked = measure(t, operator, pid, f"{there} jobs at rest")
    others = {key: count for key, count in asked.items() if key[1] != "leases" and key[0] != "watch"}
    t.check(not others, f"requests of an operator with nothing to do: {others}")


def measure(t: Scenario, operator: Operator, pid: int, what: str) -> dict:
    """What a minute costs in which nothing is changed."""
    began, before = time.time(), cost(pid)
    time.sleep(IDLE_SECONDS)
    after = cost(pid)
    cores = (after.cpu_seconds - before.cpu_seconds) / (after.at - before.at)
    asked = audit.requests(operator, began)
    said = ", ".join(f"{verb} {resource} {count}" for (verb, resource), count in asked.most_common())
    t.say(f"{what}: {cores:.3f} cores, {after.memory_bytes >> 20} MiB, {sum(asked.values())} requests in {IDLE_SECONDS} s ({said}); "
          f"load {os.getloadavg()[0]:.1f}, {free_bytes() >> 20} MiB free")
    t.check(cores <= CORES_MAX and after.memory_bytes <= MEMORY_BYTES_MAX, f"{what}: {cores:.2f} cores, {after.memory_bytes >> 20} MiB")
    return asked


def job(t: Scenario, index: int) -> dict:
    """A row a second, counted; a checkpoint a minute."""
    name = f"job-{index:04}"
    return {"apiVersion": "weir.dev/v1alpha1", "kind": "StatefulJob", "metadata": {"name": name, "namespace": t.namespace}, "spec": {
        "state": {"uri": t.bucket.uri(f"state/{name}"), "memory": "4Mi", "store": t.store() | {"secretRef": {"name": "s3"}}},
        "checkpoint": {"interval": "60s"},
        "worker": {"resources": {"requests": {"cpu": "10m"}}, "nodeSelector": {"type": "fake"},
                   "tolerations": [{"key": "fake", "operator": "Exists"}]},
        "pipeline": [
            {"id": "made", "source": {"generate": {"keys": {"distinct": 10}, "rate": 1}}},
            {"id": "sums", "from": "made", "aggregate": {"key": ["key"], "values": ["count(*) as n"]}},
            {"id": "out", "from": "sums", "sink": {"blackhole": {}}}]}}


def jobs(t: Scenario) -> list[dict]:
    return api.get(api.place("sj", t.namespace))["items"]


def ready(t: Scenario, phase: str) -> int:
    def is_so(one: dict) -> bool:
        status = one.get("status", {})
        seen = status.get("observedGeneration") == one["metadata"]["generation"] and status.get("phase") == phase
        return seen and any(its["type"] == "Ready" and its["status"] == "True" for its in status.get("conditions", []))

    time.sleep(1)   # a list of a thousand is not for every quarter of a second
    return sum(map(is_so, jobs(t)))


def process(t: Scenario, operator: Operator) -> int:
    [pod] = operator.pods("Running")
    [pid] = [pid for pid, words in t.processes(pod, operator.namespace).items() if "operator" in words]
    return pid


def cost(pid: int) -> Cost:
    user, system = (Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[at] for at in (11, 12))
    resident = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return Cost((int(user) + int(system)) / TICKS, int(resident.split()[1]) << 10, time.monotonic())


def free_bytes() -> int:
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) << 10


def metric(t: Scenario, operator: Operator, name: str) -> float:
    [pod] = operator.pods("Running")
    page = t.kubectl("get", "--raw", f"/api/v1/namespaces/{operator.namespace}/pods/{pod}:7411/proxy/metrics", namespace=False)
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name) and not line.startswith("#"))
