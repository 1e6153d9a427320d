"""Runs scenarios: brings the cluster up, gives each its namespace and its time, tears everything down, counts."""

import argparse
import fcntl
import importlib.util
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from . import shell
from .scenario import IMAGE, Scenario
from .shell import ROOT, STATE, Failed

SCENARIOS = ROOT / "e2e/scenarios"
CLUSTER = ROOT / "e2e/cluster/cluster.sh"
INSTALL_SECONDS_MAX = 45 * 60


class Late(BaseException):
    """The scenario's time is over. No `Exception`, so that nothing on the way takes it for a failed probe."""


@dataclass(frozen=True)
class Wanted:
    """A scenario that was found: `subset` of `make e2e`, or only of `make e2e-all`."""

    name: str
    module: ModuleType

    @property
    def subset(self) -> bool:
        return getattr(self.module, "SUBSET", True)

    @property
    def deadline(self) -> int:
        return self.module.DEADLINE_SECONDS

    @property
    def hidden(self) -> bool:
        """Only run by its name: it is made to fail."""
        return getattr(self.module, "HIDDEN", False)


def load(file: Path) -> Wanted:
    spec = importlib.util.spec_from_file_location(file.stem.replace("-", "_"), file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Wanted(file.stem, module)


def choose(names: list[str]) -> list[Wanted]:
    found = [load(file) for file in sorted(SCENARIOS.glob("*.py"))]
    if not names:
        return [one for one in found if one.subset and not one.hidden]
    if names == ["all"]:
        return [one for one in found if not one.hidden]
    known = {one.name: one for one in found}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"e2e: no scenario {', '.join(unknown)}; there are {', '.join(known)}, and `all`", file=sys.stderr)
        raise SystemExit(2)
    return [known[name] for name in names]


def alone() -> object:
    """Holds the machine's one cluster, as long as this process lives; a second run is told so."""
    STATE.parent.mkdir(parents=True, exist_ok=True)
    held = open(f"{STATE}.lock", "a+", encoding="ascii")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.seek(0)
        print(f"e2e: process {held.read().strip() or '(unknown)'} uses the cluster now", file=sys.stderr)
        raise SystemExit(2) from None
    held.truncate(0)
    held.write(str(os.getpid()))
    held.flush()
    return held


def step(what: str, action) -> None:
    began = time.monotonic()
    action()
    print(f"e2e: {what}: {time.monotonic() - began:.1f} s", flush=True)


def install(names: list[str]) -> None:
    sets = ["cluster", "tools", *(["extra"] if names == ["all"] else [])]
    folders = [shell.run(ROOT / "e2e/tools/install.sh", one, seconds=INSTALL_SECONDS_MAX).stdout.strip() for one in sets]
    os.environ["PATH"] = ":".join([*folders, os.environ["PATH"]])


def up(binary: Path, keep: bool) -> None:
    """The cluster with image and S3 server; a kept one is used again."""
    os.environ["KUBECONFIG"] = str(STATE / "admin.kubeconfig")
    os.environ.setdefault("NODES", "2")
    os.environ["HELM_CACHE_HOME"] = os.environ["HELM_CONFIG_HOME"] = os.environ["HELM_DATA_HOME"] = str(STATE / "helm")
    running = keep and shell.run("kubectl", "get", "nodes", ok=tuple(range(256))).returncode == 0
    if not running:
        step(f"cluster of {os.environ['NODES']} nodes", lambda: shell.run(CLUSTER, "up"))
        step("S3 server", lambda: shell.run(ROOT / "e2e/cluster/s3.sh", "up"))
    archive = STATE / "weir.tar"
    step("image", lambda: shell.run(ROOT / "e2e/image/build.sh", binary, archive, IMAGE))
    step("image on the nodes", lambda: shell.run(CLUSTER, "load", archive))


def down() -> None:
    """Ends the cluster and checks that nothing is left of it."""
    shell.run(CLUSTER, "down")
    shell.run(ROOT / "e2e/cluster/leftovers.sh")


def attempt(wanted: Wanted) -> str | None:
    """Runs one scenario within its time; why it failed, if it did."""
    scenario, failure = Scenario(wanted.name), None

    def late(*_: object) -> None:
        raise Late(f"not over after {wanted.deadline} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(wanted.deadline)
    try:
        scenario.prepare()
        wanted.module.run(scenario)
    except (Failed, Late) as failed:
        failure = str(failed) + "\n" + where(failed)
    except Exception:
        failure = traceback.format_exc()
    finally:
        signal.alarm(0)
        if failure:
            print(f"    failed: {failure}\n{indented(scenario.report())}", flush=True)
        try:
            scenario.clean_up()
        except Failed as failed:
            print(f"    {failed}", flush=True)
            failure = failure or str(failed)
    return failure


def where(failed: BaseException) -> str:
    """The line of the scenario in which it failed."""
    frames = [frame for frame in traceback.extract_tb(failed.__traceback__) if str(SCENARIOS) in frame.filename]
    return "\n".join(f"at e2e/scenarios/{Path(frame.filename).name}:{frame.lineno}: {frame.line}" for frame in frames)


def indented(text: str) -> str:
    return "\n".join("    | " + line for line in text.splitlines())


def run_all(scenarios: list[Wanted]) -> int:
    failed = []
    for wanted in scenarios:
        about = (wanted.module.__doc__ or "").strip().splitlines()[0]
        print(f"e2e: {wanted.name}: {about}", flush=True)
        began = time.monotonic()
        failure = attempt(wanted)
        print(f"e2e: {wanted.name}: {'FAILED' if failure else 'passed'} ({time.monotonic() - began:.1f} s)", flush=True)
        if failure:
            failed.append((wanted.name, failure.splitlines()[0]))
    for name, why in failed:
        print(f"e2e: {name} failed: {why}")
    print(f"e2e: {len(scenarios) - len(failed)} passed, {len(failed)} failed", end="")
    return len(failed)


def stop(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(prog="e2e/run", description=__doc__)
    parser.add_argument("names", nargs="*", help="scenarios, or `all`; none: the subset of `make e2e`")
    parser.add_argument("--keep", action="store_true", help="use the cluster that is up, and leave it up")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    args = parser.parse_args()
    scenarios = choose(args.names or (["all"] if args.list else []))
    if args.list:
        for one in scenarios:
            print(f"{one.name:16} {'' if one.subset else '(all) '}{(one.module.__doc__ or '').strip().splitlines()[0]}")
        return 0
    binary = Path(shell.BINARY)
    if not binary.exists():
        print(f"e2e: no {binary}; `make build` makes it, and WEIR_BINARY names another", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, stop)
    began, failures, held = time.monotonic(), 1, alone()
    try:
        step("programs are installed", lambda: install(args.names))
        up(binary, args.keep)
        failures = run_all(scenarios)
        print(f" ({(time.monotonic() - began) / 60:.1f} min)", flush=True)
    except Failed as failed:
        print(f"e2e: {failed}\n{ends_of_logs()}", file=sys.stderr)
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)   # the teardown is not cut short
        if not args.keep:
            try:
                step("teardown", down)
            except Failed as failed:
                print(f"e2e: {failed}", file=sys.stderr)
                failures += 1
        held.truncate(0)
        held.close()
    return 1 if failures else 0


def ends_of_logs() -> str:
    """The last lines of the cluster's own logs, for when it did not come up."""
    files = sorted((STATE / "log").glob("*.log")) if (STATE / "log").exists() else []
    return "\n".join(f"{file.name}: {line}" for file in files for line in file.read_text(errors="replace").splitlines()[-3:])
