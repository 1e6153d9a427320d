"""The flights job of the examples, made to run from a scenario's bucket to it."""

import json

from .scenario import Scenario, restricted_pod
from .shell import ROOT


def manifest(t: Scenario, rate: int | None = None, secret: str | None = None) -> str:
    """examples/flights.yaml with the bucket's URIs and `store`; `secret` becomes its `secretRef`."""
    store = t.store() | ({"secretRef": {"name": secret}} if secret else {})
    slow = f", rate: {rate}" if rate else ""
    text = (ROOT / "examples/flights.yaml").read_text()
    for old, new in [
        ("uri: data/flights.parquet", f"uri: {t.put_flights()}{slow}"),
        ("uri: out/delays", f"uri: {t.bucket.uri('out/delays')}"),
        ("uri: out/aircraft", f"uri: {t.bucket.uri('out/aircraft')}"),
    ]:
        t.check(text.count(old) == 1, f"examples/flights.yaml has no {old}")
        text = text.replace(old, f"{new}, store: {json.dumps(store)}")
    return text


def assert_output(t: Scenario) -> None:
    t.assert_output("out/delays", "flights.delays.ndjson")
    t.assert_output("out/aircraft", "flights.aircraft.ndjson")


class Standalone:
    """`weir run` in pods, without an operator: its manifest in a ConfigMap, its state in the bucket."""

    def __init__(self, t: Scenario, rate: int) -> None:
        self.t = t
        t.secret()
        files = {"job.yaml": manifest(t, rate)} | ({"ca.crt": t.s3.ca.read_text()} if t.s3.ca else {})
        t.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "job"}, "data": files})

    def start(self, name: str, restart: str = "Never") -> None:
        """A pod; its data folder lives as long as it, and outlives its container."""
        # The state's place comes by --state, which knows the environment's settings alone.
        env = {"AWS_ENDPOINT": self.t.s3.endpoint, "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}
        if self.t.s3.ca:
            env |= {"AWS_ALLOW_HTTP": "false", "SSL_CERT_FILE": "/manifest/ca.crt"}
        args = ["run", "/manifest/job.yaml", "--data", "/var/lib/weir", "--state", self.t.bucket.uri("state")]
        self.t.apply(restricted_pod(name, args, env_from="s3", env=env, config="job", restart=restart))
