"""Changes of a running job: the template of its pods, by a cut, and what of it is refused."""

from harness.operated import Job, Operator
from harness.scenario import Scenario

SUBSET = False
DEADLINE_SECONDS = 300
# What the restricted Pod Security Standard asks of a container; the rest stands in the pod.
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def run(t: Scenario) -> None:
    t.secret()
    operator = Operator(t)
    job = Job(t, 1_000_000)
    job.apply(replicas=2)
    job.settled(2)
    template(t, job)
    job.finish()
    operator.check_rights()


def template(t: Scenario, job: Job) -> None:
    """Labels, a volume, a variable and a container beside the worker: in new pods; what is Weir's own changes nothing."""
    before, plain = job.pods(), job.spec["worker"]
    job.apply(worker=plain | {"podTemplate": {
        "metadata": {"labels": {"team": "flights"}, "annotations": {"example.org/owner": "flights"}},
        "spec": {
            "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "16Mi"}}],
            "containers": [
                {"name": "worker", "env": [{"name": "TEAM", "value": "flights"}], "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]},
                {"name": "beside", "image": "weir.dev/pause:1", "imagePullPolicy": "Never", "securityContext": RESTRICTED},
            ],
        },
    }})
    t.until("all pods are others", lambda: not set(before) & set(job.pods()))
    job.settled(2)
    for pod in job.pod_objects():
        worker, beside = pod["spec"]["containers"]
        t.check(pod["metadata"]["labels"]["team"] == "flights", f"{pod['metadata']['labels']}")
        t.check(pod["metadata"]["annotations"]["example.org/owner"] == "flights", f"{pod['metadata']['annotations']}")
        t.check({"name": "TEAM", "value": "flights"} in worker["env"] and beside["name"] == "beside", f"{pod['spec']}")
    paused = job.status()["lastRescale"]["pauseMs"] if job.status().get("lastRescale") else None
    t.say(f"pods have the template; rows stood still for {paused} ms")

    # A worker that is killed beside a container that runs on is seen to be gone.
    killed = job.pods()[0]
    t.signal(killed, "KILL", containing="worker")
    t.until("the killed worker is replaced", lambda: len(job.pods()) == 2 and killed not in job.pods())
    job.settled(2)

    workers = job.pods()
    for wrong, said in [({"hostNetwork": True}, "podTemplate.spec.hostNetwork: is Weir's own"),
                        ({"nodeSelectr": {"a": "b"}}, "a pod has no field nodeSelectr")]:
        job.apply(worker=plain | {"podTemplate": {"spec": wrong}})
        t.contains(job.says("SpecRefused", "Stalled"), said)
        job.goes_on()
        t.check(job.pods() == workers, f"a refused template changed pods: {workers} to {job.pods()}")
    job.apply(worker=plain)
    t.until("all pods are plain again", lambda: not set(workers) & set(job.pods()))
    job.settled(2)
