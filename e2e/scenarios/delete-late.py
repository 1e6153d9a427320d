"""`Delete` where the state can't be reached (bucket away, secret gone, namespace ending): let go in bounded time, and said so."""

import json
import time

from harness.operated import Job, Operator
from harness.scenario import NOWHERE, Scenario

# It waits for the operator's own deadline, five minutes.
SUBSET = False
DEADLINE_SECONDS = 600
DELETION_SECONDS_MAX = 300 + 60


def run(t: Scenario) -> None:
    t.secret()
    operator = Operator(t)
    other = ending_namespace(t)
    away, secret = Job(t, 5_000_000, name="away", deletionPolicy="Delete"), Job(t, 5_000_000, name="secret", deletionPolicy="Delete")
    secret.store = secret.store | {"secretRef": {"name": t.secret("its-own")}}
    refused = Job(t, 5_000_000, name="refused", deletionPolicy="Delete")
    manifest = refused.manifest()
    manifest["spec"]["pipeline"][4]["from"] = "nobody"
    t.apply(manifest)
    for job in (away, secret):
        job.apply()
    for job in (away, secret):
        job.settled(1)
        t.until(f"{job.name} has its finalizer", lambda: t.get("sj", job.name)["metadata"].get("finalizers"))
    away.change({"suspend": True})
    t.until("away is suspended", lambda: away.phase() == "Suspended")
    # Its store is at an address where nobody answers.
    away.change({"state": {"store": away.store | {"endpoint": NOWHERE}}})
    t.kubectl("delete", "secret", "its-own")

    refused.says("SpecRefused")

    began = time.monotonic()
    for job in (away, secret, refused):
        t.kubectl("delete", "sj", job.name, "--wait=false")
    t.kubectl("delete", "namespace", other, "--wait=false", namespace=False)
    t.until("no worker is left", lambda: not secret.pods(), 30)
    for job in (secret, refused, away):
        # Credentials that were read before are still good for a while.
        t.until(f"{job.name} is gone", lambda: not t.get("sj", job.name), DELETION_SECONDS_MAX - (time.monotonic() - began))
        t.say(f"{job.name}: gone after {time.monotonic() - began:.0f} s")
    t.until("the namespace is gone", lambda: not t.kubectl(
        "get", "namespace", other, "--ignore-not-found", namespace=False).strip(), DELETION_SECONDS_MAX - (time.monotonic() - began))
    t.say(f"the namespace is gone after {time.monotonic() - began:.0f} s")

    t.check(t.bucket.keys("state/away/"), "a state that nobody could reach is gone")
    events = json.loads(t.kubectl("get", "events.events.k8s.io", "-o", "json"))["items"]
    kept = [event["note"] for event in events if event["reason"] == "StateKept" and event["regarding"]["name"] == "away"]
    t.check(kept, f"no event says that the state is kept: {[event['reason'] for event in events]}")
    t.contains(kept[0], t.bucket.uri("state/away"))
    operator.check_rights()


def ending_namespace(t: Scenario) -> str:
    """A namespace with a job whose state is to go with it; its secrets may go before."""
    name = t.namespace_beside("ends")
    t.secret(namespace=name)
    job = Job(t, 5_000_000, name="ends", deletionPolicy="Delete")
    t.kubectl("apply", "-n", name, "-f", "-", text=json.dumps(job.manifest()), namespace=False)
    t.kubectl("wait", "-n", name, "--for=condition=Ready", "sj/ends", "--timeout=60s", namespace=False)
    return name
