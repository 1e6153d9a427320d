"""A node with half of the workers stands still: the others go on in seconds, all are there again, and it comes back to nothing."""

import time

from harness.operated import Job, started
from harness.scenario import Scenario

# The control plane takes its time to see that a node is lost.
SUBSET = False
DEADLINE_SECONDS = 400
# A leader that is on that node too is replaced after 15 s.
SURVIVORS_SECONDS_MAX = 40


def run(t: Scenario) -> None:
    operator, job = started(t, 2_000_000, 4)
    lose_node(t, job)
    t.check(job.status().get("restarts", 0) == 0, f"lost workers used up restarts: {job.status()}")
    job.finish()
    operator.check_rights()


def lose_node(t: Scenario, job: Job) -> None:
    """All of a node stands still, as when its machine hangs: nobody there ends a pod, or says anything."""
    spread(t, job)
    lost, generation = job.on_node("node2"), job.generation()
    t.undo(lambda: t.node_is("node2", "wake"))
    t.node_is("node2", "hang")
    began = time.monotonic()
    t.until("the survivors go on", lambda: job.generation() > generation, SURVIVORS_SECONDS_MAX)
    job.goes_on(SURVIVORS_SECONDS_MAX)
    t.say(f"node lost: the survivors go on after {time.monotonic() - began:.1f} s")
    # The control plane takes 40 s to see it, and pods that were bound to it meanwhile are given up 30 s later.
    job.settled(4, 120)
    t.check(not set(lost) & set(job.pods()), f"{lost} are still counted on")
    t.say(f"node lost: as before after {time.monotonic() - began:.1f} s")
    t.node_is("node2", "wake")
    t.until("the lost node's workers are gone", lambda: not set(lost) & {pod["metadata"]["name"] for pod in t.pods()}, 60)
    job.goes_on()


def spread(t: Scenario, job: Job) -> None:
    """Brings two workers to each node."""
    crowded = max(("node1", "node2"), key=lambda node: len(job.on_node(node)))
    t.undo(lambda: t.kubectl("uncordon", crowded, namespace=False))
    t.kubectl("cordon", crowded, namespace=False)
    for pod in job.on_node(crowded)[2:]:
        t.kubectl("delete", "pod", pod, "--wait=false")
    t.until("two workers are on each node", lambda: len(job.on_node("node1")) == len(job.on_node("node2")) == 2, 30)
    t.kubectl("uncordon", crowded, namespace=False)
    job.settled(4)
