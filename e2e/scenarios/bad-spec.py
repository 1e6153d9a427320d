"""Every rule of the definition refused by the API server; what only running shows is told in a condition; a commit cures it."""

import json

from harness.operated import Job, Operator
from harness.scenario import Scenario

DEADLINE_SECONDS = 300
# A store that does not answer is asked again for half a minute.
TOLD_SECONDS_MAX = 45

SOURCE = {"id": "made", "source": {"generate": {"sequence": {"count": 10}}}}
SINK = {"id": "out", "from": "made", "sink": {"blackhole": {}}}
URI_WORDS = "in a cluster a uri begins with s3:// or file://; relative ones serve `weir run`"


def spec(*steps: dict, **fields: object) -> dict:
    return {"pipeline": [SOURCE, *(steps or (SINK,))], "state": {"uri": "s3://bucket/state"}} | fields


def sums(**fields: object) -> tuple[dict, dict]:
    step = {"id": "sums", "from": "made", "aggregate": {"values": ["count(*) as n"]} | fields}
    return step, SINK | {"from": "sums"}


def source(**fields: object) -> dict:
    return spec() | {"pipeline": [{"id": "made", "source": fields}, SINK]}


# A spec and what is said of it. The first word of a rule's path is in it too, where two rules say the same.
REFUSED = [
    (spec(checkpoint={"interval": "50ms"}), "spec.checkpoint.interval", "interval is at least 100ms"),
    (spec(checkpoint={"timeout": "50ms"}), "spec.checkpoint.timeout", "timeout is at least 100ms"),
    (spec(failover={"timeout": "50ms"}), "spec.failover.timeout", "timeout is at least 100ms"),
    (spec(rescale={"deadline": "500ms"}), "spec.rescale.deadline", "deadline is at least 1s"),
    (spec(compaction={"mode": "Remote", "minReplicas": 3, "maxReplicas": 2}), "spec.compaction", "compaction.maxReplicas is at least minReplicas"),
    (spec(failover={"within": "500ms"}), "spec.failover.within", "within is at least 1s"),
    (spec(*sums(ttl="0s")), "aggregate.ttl", "ttl is at least 1ms"),
    (spec(*sums(window={"hop": {"size": "1s", "every": "0s"}})), "hop.every", "every is at least 1ms"),
    (spec(*sums(window={"hop": {"size": "0s", "every": "0s"}})), "hop.size", "size is at least 1ms"),
    (spec(*sums(window={"hop": {"size": "1s", "every": "2s"}})), "window.hop", "every is at most size"),
    (spec(*sums(window={"session": "0s"})), "window.session", "session is at least 1ms"),
    (spec(*sums(window={"tumble": "0s"})), "window.tumble", "tumble is at least 1ms"),
    (spec(*sums(window={"tumble": "1s", "session": "1s"})), "window", "a window is exactly one of tumble, hop and session"),
    (spec(*sums(window={"tumble": "1s", "offset": "1s"})), "window", "offset is shorter than tumble"),
    (spec(*sums(window={"hop": {"size": "2s", "every": "1s"}, "offset": "1s"})), "window", "offset is shorter than hop.every"),
    (spec(*sums(emit="onClose")), "aggregate", "without a window the only choice of emit is onUpdate"),
    (spec(*sums(lateness="1s")), "aggregate", "lateness is for aggregates with a window"),
    (spec(*sums(window={"tumble": "1s"}, ttl="1s")), "aggregate", "ttl is for aggregates without a window"),
    (spec(SINK | {"sink": {"files": {"uri": "out"}}}), "sink.files.uri", URI_WORDS),
    (spec(SINK | {"sink": {"table": {"uri": "out", "key": ["seq"]}}}), "sink.table.uri", URI_WORDS),
    (spec(SINK | {"sink": {"table": {"uri": "s3://b/o", "key": ["seq"], "every": "50ms"}}}), "table.every", "every is at least 100ms"),
    (spec(SINK | {"sink": {"blackhole": {}, "print": {}}}), "sink", "a sink is exactly one of files, table, blackhole and print"),
    (source(files={"uri": "data"}), "files.uri", URI_WORDS),
    (source(files={"uri": "s3://b/d", "format": "ndjson"}), "files", "ndjson needs a schema"),
    (source(generate={"sequence": {"every": "0s"}}), "sequence.every", "every is at least 1ms"),
    (source(generate={"sequence": {}, "keys": {}}), "generate", "generate is exactly one of keys, sequence and nexmark"),
    (source(generate={"sequence": {}}, files={"uri": "s3://b/d"}), "source", "a source is exactly one of files and generate"),
    (source(files={"uri": "s3://b/d"}, eventTime={"delay": "1s"}), "source", "eventTime of files names a column"),
    (source(generate={"sequence": {}}, eventTime={"column": "time"}), "source", "generated rows have their event time"),
    (spec(SINK | {"filter": "true"}), "pipeline[1]", "a step has exactly one verb"),
    (spec(SINK, SINK), "pipeline", "the id of a step is unique"),
    (spec({"id": "x", "from": "made", "filter": "true"}), "pipeline", "a pipeline has a sink"),
    (spec(state={"uri": "s3://b/s", "memory": "1Ki"}), "state.memory", "memory is a quantity of at least 1Mi"),
    (spec(state={"uri": "state"}), "state.uri", URI_WORDS),
    (spec(restoreFrom={"uri": "state"}), "restoreFrom.uri", URI_WORDS),
    (spec(restoreFrom={}), "restoreFrom", "restoreFrom is one of snapshotRef and uri, or takeOver, alone or beside it"),
    (spec(restoreFrom={"snapshotRef": {"name": "a"}, "store": {}}), "restoreFrom", "store stands beside uri; a JobSnapshot knows its store"),
    (spec(checkpoint={"snapshots": {"schedule": "0 3 * *  "}}), "snapshots.schedule", "schedule has five fields: minute hour day month weekday"),
    (spec(upgrade={"discard": [{"step": "sums", "fingerprint": "12"}]}), "upgrade.discard", "fingerprint is fp- and 16 hexadecimal digits, as the refusal names it"),
    (spec(worker={"podTemplate": {"metadata": {"labels": {"weir.dev/job": "x"}}}}), "metadata.labels", "labels of weir.dev/, app.kubernetes.io/managed-by and app.kubernetes.io/component are Weir's own"),
    (spec(worker={"podTemplate": {"metadata": {"annotations": {"weir.dev/x": "x"}}}}), "metadata.annotations", "annotations of weir.dev/ are Weir's own"),
    (spec(replicas=64, slots=4), "spec", "replicas × slots is more than state.keyGroups"),
]
# Of a resource that is there.
FIXED = [({"state": {"uri": "s3://bucket/other"}}, "state.uri is fixed for the job's life"),
         ({"state": {"keyGroups": 64}}, "state.keyGroups is fixed for the job's life")]
NAMES = [("a" * 41, "a job's name has at most 40 characters"), ("9to5", "a job's name has lower-case letters")]


def run(t: Scenario) -> None:
    t.secret()
    operator = Operator(t)
    rules(t)
    image(t)
    secret(t)
    bucket(t)
    resources(t)
    pipeline(t)
    operator.check_rights()


def manifest(name: str, fields: dict) -> str:
    return json.dumps({"apiVersion": "weir.dev/v1alpha1", "kind": "StatefulJob", "metadata": {"name": name}, "spec": fields})


def rules(t: Scenario) -> None:
    said = []
    for fields, place, sentence in REFUSED:
        said.append(t.refused("create", "-f", "-", text=manifest("refused", fields)))
        t.contains(said[-1], place, sentence)
    for name, sentence in NAMES:
        said.append(t.refused("create", "-f", "-", text=manifest(name, spec())))
        t.contains(said[-1], sentence)
    t.kubectl("create", "-f", "-", text=manifest("fixed", spec(suspend=True)))
    for patch, sentence in FIXED:
        said.append(t.refused("patch", "sj", "fixed", "--type=merge", "-p", json.dumps({"spec": patch})))
        t.contains(said[-1], sentence)
    t.kubectl("delete", "sj", "fixed")
    t.check(not t.kubectl("get", "sj", "-o", "name").strip(), "a refused job is there")
    definition = t.get("crd", "statefuljobs.weir.dev")
    all_rules = list(messages(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))
    untested = sorted({one for one in all_rules if not any(one in text for text in said)})
    t.check(len(all_rules) >= 30 and not untested, f"of {len(all_rules)} rules nothing shows: {untested}")
    t.say(f"each of {len(all_rules)} rules is refused by the API server")


def messages(schema: object):
    """The words of all rules of a definition."""
    if isinstance(schema, dict):
        yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", []))
        for value in schema.values():
            yield from messages(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from messages(value)


def cured(t: Scenario, job: Job, what: str) -> None:
    """The right manifest is applied, and nothing else is done."""
    job.apply()
    t.until(f"{what}: cured by a commit", lambda: job.phase() == "Finished")
    job.assert_output()
    t.check(not job.pods(), f"a finished job has workers: {job.pods()}")


def told(t: Scenario, job: Job, *words: str) -> None:
    """`Ready` is False, and says all of this."""
    def says() -> str:
        ready = job.condition()
        return ready["message"] if ready.get("status") == "False" and all(one in ready["message"] for one in words) else ""

    said = t.until(f"{job.name}: it says {words[0]}", says, TOLD_SECONDS_MAX)
    t.say(f"{job.condition()['reason']}: {said[:160]}")


def small(t: Scenario, name: str) -> Job:
    job = Job(t, 2_000, name=name)
    job.rate = 0
    return job


def image(t: Scenario) -> None:
    job = small(t, "image")
    wrong = job.manifest()
    wrong["spec"]["worker"]["image"] = "nowhere.invalid/none:1"
    t.apply(wrong)
    told(t, job, "nowhere.invalid/none:1", "Image")
    cured(t, job, "bad image")


def secret(t: Scenario) -> None:
    job = small(t, "secret")
    right = job.store
    job.store = right | {"secretRef": {"name": "nobody"}}
    job.apply()
    told(t, job, "nobody", "there is none of this name in the job's namespace")
    job.store = right
    cured(t, job, "missing secret")
    # Or the secret comes, and nobody touches the job.
    job = small(t, "later")
    job.store = right | {"secretRef": {"name": "later"}}
    job.apply()
    told(t, job, "later")
    t.secret("later")
    t.until("the secret came", lambda: job.phase() == "Finished")


def bucket(t: Scenario) -> None:
    job = small(t, "bucket")
    wrong = job.manifest()
    for step in wrong["spec"]["pipeline"]:
        if "sink" in step:
            step["sink"]["files"]["uri"] = f"s3://no-such-bucket/{step['id']}"
    t.apply(wrong)
    told(t, job, "no-such-bucket")
    cured(t, job, "wrong bucket")
    # That of the state is fixed for the job's life: only another resource cures it.
    job = small(t, "state")
    wrong = job.manifest()
    wrong["spec"]["state"]["uri"] = "s3://no-such-bucket/state"
    t.apply(wrong)
    told(t, job, "no-such-bucket")
    t.kubectl("delete", "sj", "state", "--timeout=30s")
    cured(t, job, "wrong bucket of the state")


def resources(t: Scenario) -> None:
    job = small(t, "resources")
    wrong = job.manifest()
    wrong["spec"]["worker"] = {"resources": {"requests": {"cpu": "1000"}}}
    t.apply(wrong)
    told(t, job, "cannot be scheduled", "Insufficient cpu")
    wrong["spec"]["worker"] = {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}
    t.apply(wrong)
    told(t, job, "must be less than or equal to cpu limit")
    cured(t, job, "impossible resources")


def pipeline(t: Scenario) -> None:
    """What the API server cannot see is found by the operator, all at once, with its place."""
    job = small(t, "pipeline")
    wrong = job.manifest()
    wrong["spec"]["pipeline"][1]["select"] = ["sequence", "seq % 100 as k"]
    wrong["spec"]["pipeline"][3]["from"] = "nobody"
    t.apply(wrong)
    told(t, job, "spec.pipeline[3].from", "nobody")
    t.check(job.condition("Stalled").get("status") == "True", f"{job.status()}")
    wrong["spec"]["pipeline"][3]["from"] = "keyed"
    t.apply(wrong)
    told(t, job, "spec.pipeline[1].select", "sequence")
    cured(t, job, "wrong pipeline")
