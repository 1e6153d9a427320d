"""Comparing output with what is expected: as bags of rows, floats to 1e-9."""

import json
import math
from pathlib import Path

from .shell import Failed

FLOAT_TOLERANCE = 1e-9
DIFFERENCES_SHOWN = 5


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def assert_same(got: list[dict], expected: list[dict]) -> None:
    """Fails unless both hold the same rows, each as often; the order does not count."""

    def order(row: dict) -> tuple[str, str]:
        exact = {name: value for name, value in row.items() if not isinstance(value, float)}
        return json.dumps(exact, sort_keys=True), json.dumps(row, sort_keys=True)

    if not expected:
        raise Failed("nothing is expected: that comparison could not fail")
    if len(got) != len(expected):
        raise Failed(f"{len(got)} rows, expected are {len(expected)}")
    pairs = zip(sorted(got, key=order), sorted(expected, key=order))
    differing = [(a, b) for a, b in pairs if not _same(a, b)]
    if differing:
        shown = "\n".join(f"  got {a}\n  not {b}" for a, b in differing[:DIFFERENCES_SHOWN])
        raise Failed(f"{len(differing)} of {len(expected)} rows differ:\n{shown}")


def _same(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[name], b[name]) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    numbers = isinstance(a, (int, float)) and isinstance(b, (int, float)) and bool not in (type(a), type(b))
    if numbers and (isinstance(a, float) or isinstance(b, float)):
        return math.isclose(a, b, rel_tol=FLOAT_TOLERANCE, abs_tol=FLOAT_TOLERANCE) or (a != a and b != b)
    return type(a) is type(b) and a == b
