"""Deleted in each phase, under both policies: soon gone, nothing left but what is to stay; Retain goes on when declared again."""

from harness.operated import Job, Operator
from harness.scenario import Scenario

DEADLINE_SECONDS = 400
GONE_SECONDS_MAX = 30
NO_IMAGE = {"image": "nowhere.invalid/none:1", "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}
NOWHERE = "http://10.244.0.200:7070"
TOO_MUCH = {"resources": {"requests": {"cpu": "1000", "memory": "64Mi"}}}


def run(t: Scenario) -> None:
    t.secret()
    operator = Operator(t)
    neighbour = Job(t, 5_000_000, name="neighbour", rate=1_000)
    neighbour.apply()
    neighbour.settled(1)
    for policy in ("Delete", "Retain"):
        in_each_phase(t, policy)
    secret_gone(t)
    neighbour_goes_on(t, neighbour)
    declared_again(t)
    operator.check_rights()
    namespace_goes(t, neighbour)
    staged = [key for key in t.bucket.keys("out/") if "/_weir/" in key and "-delete/" in key]
    t.check(not staged, f"with the state nobody can ever find staged output: {staged[:5]}")


def gone(t: Scenario, job: Job, what: str, policy: str) -> None:
    """Deletes it and looks at what is left."""
    t.kubectl("delete", "sj", job.name, f"--timeout={GONE_SECONDS_MAX}s")
    t.until(f"{what}, {policy}: gone with its pods and secrets", lambda: not left(t, job), GONE_SECONDS_MAX)
    kept = [key for key in t.bucket.keys(f"state/{job.name}/") if "/claims/" not in key]
    if policy == "Delete":
        t.check(not kept, f"{what}: state is left: {kept[:5]}")


def left(t: Scenario, job: Job) -> str:
    return t.kubectl("get", "pods,secrets", "-l", f"weir.dev/job={job.name}", "-o", "name").strip()


def in_each_phase(t: Scenario, policy: str) -> None:
    def job(name: str, **spec: object) -> Job:
        return Job(t, 5_000_000, name=f"{name}-{policy.lower()}", deletionPolicy=policy, **spec)

    pending = job("pending")
    starting, running = job("starting", worker=NO_IMAGE), job("running", replicas=2)
    rescaling, suspended = job("rescaling"), job("suspended", suspend=True)
    recovering, stops = job("recovering"), job("stops")
    finished, failed = job("finished"), job("failed", failover={"restarts": 0, "within": "10m"})
    finished.rows, finished.rate = 1_000, 0
    for one in (starting, running, rescaling, suspended, recovering, stops, finished):
        one.apply()
    manifest = failed.manifest()
    manifest["spec"]["pipeline"][1]["select"][0] = "seq + 0 / (seq - 500) as seq"
    t.apply(manifest)
    manifest = pending.manifest()
    manifest["spec"]["pipeline"][0]["source"] = {"files": {"uri": "s3://away/x.parquet", "store": pending.store | {"endpoint": NOWHERE}}}
    manifest["spec"]["pipeline"][1]["select"] = ["seq", "1 as k"]
    manifest["spec"]["pipeline"][3]["aggregate"].pop("window")
    manifest["spec"]["pipeline"][4]["sink"] = {"blackhole": {}}
    t.apply(manifest)

    t.until("pending", lambda: pending.phase() == "Pending" and pending.condition().get("reason") == "Beginning")
    gone(t, pending, "Pending", policy)
    t.until("starting", lambda: starting.condition().get("reason") == "PodsNotStarting")
    gone(t, starting, "Starting", policy)
    running.settled(2)
    gone(t, running, "Running", policy)
    rescaling.settled(1)
    rescaling.apply(replicas=2, worker=TOO_MUCH)
    t.until("rescaling", lambda: rescaling.phase() == "Rescaling")
    gone(t, rescaling, "Rescaling", policy)
    recovering.settled(1)
    recovering.apply(worker=TOO_MUCH)
    t.until("it waits", lambda: recovering.condition().get("reason") == "PodsNotStarting")
    t.signal(sorted(recovering.pods(), key=lambda pod: not t.processes(pod))[0], "KILL", containing="worker")
    t.until("recovering", lambda: recovering.phase() == "Recovering", 30)
    gone(t, recovering, "Recovering", policy)
    stops.settled(1)
    stops.change({"suspend": True})
    gone(t, stops, "Suspending", policy)
    t.until("suspended", lambda: suspended.phase() == "Suspended")
    gone(t, suspended, "Suspended", policy)
    t.until("finished", lambda: finished.phase() == "Finished")
    gone(t, finished, "Finished", policy)
    finished.assert_output()
    t.until("failed", lambda: failed.phase() == "Failed")
    gone(t, failed, "Failed", policy)


def secret_gone(t: Scenario) -> None:
    """Without credentials workers can't upload any more; with Retain nobody needs them to end."""
    job = Job(t, 5_000_000, name="nosecret")
    job.store = job.store | {"secretRef": {"name": t.secret("its-own")}}
    job.apply()
    job.settled(1)
    t.kubectl("delete", "secret", "its-own")
    gone(t, job, "secret gone", "Retain")
    job = Job(t, 5_000_000, name="noworkers", deletionPolicy="Delete")
    job.apply(replicas=2)
    job.settled(2)
    for pod in job.pods():
        t.signal(pod, "KILL", containing="worker")
    gone(t, job, "workers gone", "Delete")


def neighbour_goes_on(t: Scenario, neighbour: Job) -> None:
    neighbour.goes_on()
    t.check(neighbour.condition().get("status") == "True" and len(neighbour.pods()) == 1, f"{neighbour.status()}")


def declared_again(t: Scenario) -> None:
    """The same name, namespace and URI: it goes on where it was, wherever that was."""
    job = Job(t, 300_000, name="again")
    job.apply(replicas=2)
    job.settled(2)
    job.goes_on()
    gone(t, job, "Running", "Retain")
    seen = len(t.bucket.rows("out/again/rows"))
    job.apply(replicas=3)
    job.settled(3)
    job.finish()
    t.check(0 < seen < job.rows, f"{seen} rows were there before")


def namespace_goes(t: Scenario, neighbour: Job) -> None:
    """Its secrets go with it, maybe first. Jobs that keep their state hold nothing up."""
    t.kubectl("delete", "namespace", t.namespace, "--timeout=60s", namespace=False)
    t.check(t.bucket.keys(f"state/{neighbour.name}/"), "the state went with the namespace")
    t.say("the namespace is gone")
