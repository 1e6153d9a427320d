"""Several scenarios' worth of work beside one another, each in a namespace and a bucket of its own."""

import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from .scenario import Scenario
from .shell import Failed

Work = TypeVar("Work")


class Lane(Scenario):
    """One of them. What it says is kept, and shown when something fails."""

    def __init__(self, t: Scenario, index: int) -> None:
        super().__init__(f"{t.name}-{index}")
        self.said: list[str] = []
        t.undo(self.clean_up)
        self.prepare()

    def say(self, what: str) -> None:
        self.said.append(what)


def in_lanes(lanes: list[Lane], work: list[Work], do: Callable[[Lane, Work], object]) -> None:
    """Does all of it, in each lane one after the other; the first failure ends it, and so does an interruption."""
    rest, failures = deque(work), []

    def follow(lane: Lane) -> None:
        while not failures:
            try:
                item = rest.popleft()
            except IndexError:
                return
            lane.said.clear()
            try:
                do(lane, item)
            except Exception as error:
                said = "\n".join(lane.said)
                failures.append(f"{item}: {type(error).__name__}: {error}\n{said}\n{lane.report()}")

    threads = [threading.Thread(target=follow, args=(lane,), daemon=True) for lane in lanes]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:
        failures.append("interrupted")   # nobody begins anything any more
        raise
    if failures:
        raise Failed(failures[0])
