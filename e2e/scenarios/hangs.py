"""Made never to end, to show that a scenario's time is bounded: e2e/selfcheck runs it."""

import time

from harness.scenario import Scenario

DEADLINE_SECONDS = 5
HIDDEN = True


def run(t: Scenario) -> None:
    t.until("the end of time", lambda: time.sleep(1), seconds=3600)
