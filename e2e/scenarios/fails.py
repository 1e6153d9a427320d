"""Made to fail, to show that the runner can: e2e/selfcheck runs it."""

from harness.scenario import Scenario, restricted_pod

DEADLINE_SECONDS = 60
HIDDEN = True


def run(t: Scenario) -> None:
    t.apply(restricted_pod("bystander", ["validate", "/manifest/absent.yaml"]))
    code, _ = t.finished("bystander")
    t.check(code == 0, f"exit {code} of a manifest that is not there")
