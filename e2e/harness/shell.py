"""Programs: run to their end with a limit, their failure told with what they said."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATE = Path(os.environ.get("WEIR_E2E_STATE", "/var/lib/weir-e2e"))
BINARY = os.environ.get("WEIR_BINARY", str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/weir"))
COMMAND_SECONDS_MAX = 120


class Failed(Exception):
    """A check that did not hold, or a step that could not be done. Its text is for the reader of the report."""


def run(*command: object, text: str | None = None, ok: tuple[int, ...] = (0,), seconds: float = COMMAND_SECONDS_MAX,
        show: bool = False) -> subprocess.CompletedProcess:
    """Runs a program; any exit code that is not in `ok` is a failure. `show` passes its output on."""
    words = [str(word) for word in command]
    out = None if show else subprocess.PIPE
    try:
        done = subprocess.run(words, input=text, stdout=out, stderr=out, text=True, timeout=seconds,
                              stdin=subprocess.DEVNULL if text is None else None)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{' '.join(words)[:300]}: no end after {seconds:.0f} s") from late
    if done.returncode not in ok:
        said = "" if show else ": " + (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise Failed(f"{' '.join(words)[:300]}: exit {done.returncode}{said}")
    return done
