"""As worker-image, with MinIO as the S3 server."""

from harness.runner import SCENARIOS, load
from harness.scenario import Scenario

DEADLINE_SECONDS = 180
SUBSET = False


def run(t: Scenario) -> None:
    t.serve_s3("minio")
    load(SCENARIOS / "worker-image.py").module.run(t)
