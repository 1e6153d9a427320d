"""The S3 server is unreachable, then silent: the job waits, goes on by itself, and its output is right."""

import time

from harness import flights
from harness.scenario import Scenario

DEADLINE_SECONDS = 240
AWAY_SECONDS = 10


def run(t: Scenario) -> None:
    flights.Standalone(t, rate=20000).start("job")
    for away, back in (("cut", "mend"), ("hang", "wake")):
        t.until("output is committed", lambda: t.bucket.rows("out/delays"))
        t.s3_is(away)
        time.sleep(AWAY_SECONDS)
        t.check(t.get("pod", "job")["status"]["phase"] == "Running", "the job did not wait")
        t.s3_is(back)
        before = len(t.bucket.keys("out/delays"))
        t.until("it goes on", lambda: len(t.bucket.keys("out/delays")) > before)
    code, log = t.finished("job", seconds=120)
    t.check(code == 0, f"exit {code}: {log}")
    t.contains(log, "late rows 0", "restarts 0")
    flights.assert_output(t)
