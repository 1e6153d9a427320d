"""What operators asked the API server, by its own log (e2e/cluster/cluster.sh says whose requests it writes down)."""

import datetime
import json
from collections import Counter
from collections.abc import Iterator

from .operated import Operator
from .scenario import Scenario
from .shell import STATE


def requests(operator: Operator, since: float) -> Counter:
    """Since then: (verb, resource)."""
    asked = Counter()
    for event in _events():
        at = datetime.datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
        mine = f"system:serviceaccounts:{operator.namespace}" in event["user"].get("groups", [])
        if mine and at >= since and event["stage"] == "ResponseComplete":
            reference = event["objectRef"]
            asked[event["verb"], reference["resource"] + ("/" + reference["subresource"] if "subresource" in reference else "")] += 1
    return asked


def _events() -> Iterator[dict]:
    """Also of the files that the log went on from when they were full."""
    for file in sorted((STATE / "log").glob("audit*.json")):
        with file.open(encoding="utf-8") as log:
            yield from (json.loads(line) for line in log if line.endswith("\n"))   # the last one may be half there


def only_leases(t: Scenario, asked: Counter) -> None:
    """An operator with nothing to do keeps its leases and its watches, and asks for nothing else."""
    t.check(leases(asked) > 0, "no request for a lease: the log of requests shows nothing")
    others = {key: count for key, count in asked.items() if key[1] != "leases" and key[0] != "watch"}
    t.check(not others, f"requests of an operator with nothing to do: {others}")


def leases(asked: Counter) -> int:
    return sum(count for (_, what), count in asked.items() if what == "leases")
