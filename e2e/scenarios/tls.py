"""As worker-image, with TLS to the S3 server, whose authority a file in the pod names."""

from harness.runner import SCENARIOS, load
from harness.scenario import Scenario

DEADLINE_SECONDS = 180


def run(t: Scenario) -> None:
    t.serve_s3("tls")
    load(SCENARIOS / "worker-image.py").module.run(t)
