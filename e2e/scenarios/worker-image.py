"""The image runs a whole job in a restricted pod, from bucket to bucket, also through kill -9; a stranger is refused."""

from harness.scenario import Scenario, restricted_pod
from harness.shell import ROOT

DEADLINE_SECONDS = 180


def manifest(t: Scenario, rate: str = "") -> str:
    """examples/flights.yaml, from the scenario's bucket to it."""
    store = ", ".join(f"{name}: {str(value).lower() if isinstance(value, bool) else value}"
                      for name, value in t.store().items())
    text = (ROOT / "examples/flights.yaml").read_text()
    for old, new in [
        ("uri: data/flights.parquet", f"uri: {t.put_flights()}{rate}"),
        ("uri: out/delays", f"uri: {t.bucket.uri('out/delays')}"),
        ("uri: out/aircraft", f"uri: {t.bucket.uri('out/aircraft')}"),
    ]:
        t.check(text.count(old) == 1, f"examples/flights.yaml has no {old}")
        text = text.replace(old, f"{new}, store: {{{store}}}")
    return text


def pod(t: Scenario, name: str, config: str, restart: str = "Never") -> dict:
    # The state's place comes by --state, which knows the environment's settings alone.
    env = {"AWS_ENDPOINT": t.s3.endpoint, "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}
    args = ["run", "/manifest/job.yaml", "--data", "/var/lib/weir", "--state", t.bucket.uri("state")]
    return restricted_pod(name, args, env_from="s3", env=env, config=config, restart=restart)


def run(t: Scenario) -> None:
    t.secret()
    t.kubectl("create", "configmap", "slow", "--from-file=job.yaml=/dev/stdin", text=manifest(t, ", rate: 60000"))
    t.apply(pod(t, "first", "slow", restart="OnFailure"))
    t.until("the first checkpoint's output is there", lambda: t.bucket.rows("out/delays"))
    t.apply(pod(t, "intruder", "slow"))
    code, log = t.finished("intruder")
    t.check(code == 2, f"exit {code}: {log}")
    t.contains(log, 'the state of job "flights" is owned by local-')
    t.signal("first", "KILL")
    code, log = t.finished("first")
    t.check(code == 0, f"exit {code}: {log}")
    t.contains(log, "job flights finished")
    t.assert_output("out/delays", "flights.delays.ndjson")
    t.assert_output("out/aircraft", "flights.aircraft.ndjson")
    restarts = t.get("pod", "first")["status"]["containerStatuses"][0]["restartCount"]
    t.check(restarts == 1, f"the container was started again {restarts} times, not once")

    before = t.bucket.keys()
    t.apply(pod(t, "second", "slow"))
    code, log = t.finished("second")
    t.check(code == 0, f"exit {code}: {log}")
    t.contains(log, "finished already", "nothing was changed")
    t.check(t.bucket.keys() == before, "a second run of a finished job changed the bucket")
