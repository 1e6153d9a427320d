"""Changes of a running job: the template of its pods, by a cut, and a step whose state is given up by the line that is told."""

from harness.operated import Job, started
from harness.scenario import Scenario

SUBSET = False
DEADLINE_SECONDS = 300
# What the restricted Pod Security Standard asks of a container; the rest stands in the pod.
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def run(t: Scenario) -> None:
    operator, job = started(t, 1_000_000, 2)
    template(t, job)
    job.finish()
    discard(t)
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
    t.say("pods have the template")

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


def discard(t: Scenario) -> None:
    """A changed window is refused while the job runs on; the line to paste gives its state up, once."""
    job = Job(t, 400_000, name="dropped")
    job.apply()
    job.settled(1)
    job.goes_on()
    plain = job.manifest()
    changed = job.manifest()
    changed["spec"]["pipeline"][3]["aggregate"]["window"] = {"tumble": "2s"}
    t.apply(changed)
    said = job.says("SpecRefused", "Stalled")
    t.contains(said, "spec.pipeline[3]", "step sums", "upgrade: {discard: [{step: sums, fingerprint: fp-")
    job.goes_on()
    line = said.split("`")[1]
    fingerprint = line.split("fingerprint: ")[1].split("}")[0]
    used = {"discard": [{"step": "sums", "fingerprint": fingerprint}]}
    changed["spec"]["upgrade"] = used
    t.apply(changed)
    job.settled(1)
    job.goes_on()
    # Set back: another state is there now, of which the line says nothing.
    plain["spec"]["upgrade"] = used
    t.apply(plain)
    t.check(fingerprint not in job.says("SpecRefused", "Stalled").split("`")[1], "the same line would hold again")
    del changed["spec"]["pipeline"][0]["source"]["generate"]["rate"]
    t.apply(changed)
    t.until("it has finished", lambda: job.phase() == "Finished", 120)
    seen = sorted(row["seq"] for row in t.bucket.rows("out/dropped/rows"))
    t.check(seen == list(range(job.rows)), f"{len(seen)} rows of {job.rows} are not each there once")
    counted = sum(row["n"] for row in t.bucket.rows("out/dropped/sums"))
    t.check(job.rows // 2 < counted <= job.rows, f"{counted} of {job.rows} rows are in windows")
    t.say(f"{job.rows - counted} rows were in the state that was given up")
