"""What operators asked the API server, by its own log (e2e/cluster/cluster.sh says whose requests it writes down)."""

import json
import time
from collections import Counter

from .operated import Operator
from .shell import STATE


def requests(operator: Operator, since: float) -> Counter:
    """Since then: (verb, resource)."""
    asked = Counter()
    with (STATE / "log/audit.json").open(encoding="utf-8") as log:
        for line in log:
            event = json.loads(line)
            at = time.mktime(time.strptime(event["requestReceivedTimestamp"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
            mine = f"system:serviceaccounts:{operator.namespace}" in event["user"].get("groups", [])
            if mine and at >= since and event["stage"] == "ResponseComplete":
                reference = event["objectRef"]
                asked[event["verb"], reference["resource"] + ("/" + reference["subresource"] if "subresource" in reference else "")] += 1
    return asked
