"""Every chart: lint, its unit tests, and each object that it makes accepted by the real API server."""

from pathlib import Path

from harness import shell
from harness.scenario import Scenario
from harness.shell import ROOT

DEADLINE_SECONDS = 120


def run(t: Scenario) -> None:
    charts = sorted(file.parent for file in (ROOT / "charts").glob("*/Chart.yaml"))
    t.check(charts, "there are no charts")
    for chart in charts:
        t.helm("lint", "--strict", chart)
        t.check(list(chart.glob("tests/*_test.yaml")), f"{chart.name} has no unit tests")
        shell.run("helm-unittest", "--strict", chart)
        rendered = t.helm("template", chart.name, chart, "-n", t.namespace)
        # Nothing is stored; a field that does not exist, or a value out of bounds, is refused.
        t.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", text=rendered)
        t.say(f"{chart.name}: lint, unit tests, API server")
    check_rules(t)


def check_rules(t: Scenario) -> None:
    """Alert rules that charts ship as plain files of Prometheus."""
    files: list[Path] = sorted((ROOT / "charts").glob("*/rules/*.yaml"))
    t.check(files, "there are no alert rules")
    tests = 0
    for file in files:
        shell.run("promtool", "check", "rules", file)
        for test in sorted(file.parent.glob("tests/*_test.yaml")):
            shell.run("promtool", "test", "rules", test)
            tests += 1
    t.check(tests, "no alert rule has a test")
    t.say(f"promtool: {len(files)} files of rules, {tests} of tests")
