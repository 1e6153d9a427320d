"""A job's whole life under an operator that is killed at chosen writes of its own, and started again each time."""

import time
from collections import Counter
from dataclasses import dataclass, field

from . import state
from .front import Front, Write
from .lanes import Lane, in_lanes
from .operated import Job, Operator
from .process import OperatorProcess, kubeconfig
from .scenario import Scenario

HOWS = ("before", "after", "late")
ROWS, RATE = 150_000, 1_000
# What belongs to a phase is mostly written by then.
REST_SECONDS = 1.0


@dataclass(frozen=True)
class Kill:
    """In each phase at its n-th write; 0: never."""

    nth: int
    how: str = "before"


@dataclass
class Seen:
    """What was written in each phase of a life, and what it was killed at."""

    writes: dict[str, list[Write]] = field(default_factory=dict)
    hits: list[tuple[str, str, Write]] = field(default_factory=list)

    def most(self) -> int:
        return max(len(writes) for writes in self.writes.values())

    def kinds(self) -> Counter:
        return Counter((phase, write.what) for phase, writes in self.writes.items() for write in writes)


class Killed:
    """An operator that can be killed at a write: a process with the rights of a chart's account, behind a front. The
    chart's own are none by then."""

    def __init__(self, t: Scenario, namespace: str) -> None:
        self.t, self.fronts = t, []
        self.token = t.kubectl("create", "token", "weir", "-n", namespace, "--duration=2h", namespace=False).strip()
        self.process = OperatorProcess(t, namespace, "--watch", t.namespace, log=t.name)

    def start(self) -> None:
        front = Front()
        self.fronts.append(front)
        file = kubeconfig(front.url, self.token, self.t.name)
        # Of the S3 server's requests the front is the proxy. A process of the same pod need not wait for its leases.
        front.pid = self.process.start(KUBECONFIG=str(file), HTTP_PROXY=front.url, http_proxy=front.url, NO_PROXY="127.0.0.1",
                                       no_proxy="127.0.0.1", POD_NAME=self.t.name)

    def stop(self) -> None:
        self.process.kill()
        self.fronts[-1].close()

    def is_there(self) -> bool:
        """Another one is started where one has died; if none had."""
        if not self.process.is_dead():
            return True
        self.fronts[-1].close()
        self.start()
        return False


class Life:
    """From its declaration to its deletion. Pods: two at first, a third one comes, and no other ever."""

    def __init__(self, operator: Killed, kill: Kill, name: str) -> None:
        self.t, self.operator, self.kill, self.seen = operator.t, operator, kill, Seen()
        self.job = Job(self.t, ROWS, name=name, rate=RATE, replicas=2, deletionPolicy="Delete",
                       checkpoint={"interval": "1s", "retained": 1})
        self.first = len(operator.fronts)

    def live(self) -> Seen:
        job = self.job
        self.operator.start()
        self.phase("create", job.apply, lambda: job.is_settled(2))
        two, before = job.pods(), set(job.output())
        self.phase("run", lambda: None, lambda: len(set(job.output()) - before) >= 2)
        self.phase("rescale", lambda: job.scale(3), lambda: job.is_settled(3))
        three = job.pods()
        self.t.check(set(two) < set(three), f"{two} became {three}")
        self.phase("change", lambda: self.faster(2 * RATE), lambda: job.is_settled(3))
        self.t.check(job.pods() == three, f"{three} became {job.pods()}")
        self.phase("end", lambda: self.faster(0), lambda: job.phase() == "Finished" and not job.pods())
        self.check_end()
        delete = lambda: self.t.kubectl("delete", "sj", job.name, "--wait=false")
        self.phase("delete", delete, lambda: not self.t.get("sj", job.name))
        late = {hit.path.removeprefix(f"/{self.t.bucket.name}/") for phase, how, hit in self.seen.hits if (phase, how) == ("delete", "late")}
        # Nobody can take away what comes when all is gone; it is one object, of a run that nobody goes on with.
        self.t.until_none("nothing of it is left", lambda: {*state.dependents(job), *state.kept(job)} - late, 30)
        return self.seen

    def faster(self, rate: int) -> None:
        self.job.rate = rate
        self.job.apply()

    def phase(self, name: str, act, done) -> None:
        """Until `done`, and what is written in the moment after it; killed once on the way, if so many writes are made."""
        fronts, front = self.operator.fronts, self.operator.fronts[-1]
        first, began = len(fronts) - 1, len(front.writes)
        front.arm(self.kill.nth, self.kill.how)
        act()
        self.t.until(name, lambda: self.operator.is_there() and done(), 90)
        time.sleep(REST_SECONDS)
        fronts[-1].arm(0, "")
        if not self.operator.is_there():
            # It died of the last one: whatever that was, it is as it should be, and stays so.
            self.t.until(f"{name}, again", lambda: self.operator.is_there() and done(), 90)
        self.seen.writes[name] = front.writes[began:] + [write for one in fronts[first + 1:] for write in one.writes]
        if front.hit:
            self.seen.hits.append((name, self.kill.how, front.hit))
            self.t.say(f"{name}: killed {self.kill.how} {front.hit.what} {front.hit.path}")

    def check_end(self) -> None:
        job, t = self.job, self.t
        job.assert_output()
        t.until_none("nothing is staged", lambda: state.staged(job), 20)
        # All windows are closed: the last checkpoint may need no object.
        state.exact(job, "finished", least=0)
        fronts = self.operator.fronts[self.first:]
        came = [write.path for front in fronts for write in front.made if write.what == "POST pods"]
        # One that came only when the next operator had made its own is one too many, and goes.
        late = [hit for _, how, hit in self.seen.hits if hit.what == "POST pods" and how == "late"]
        t.check(3 <= len(came) <= 3 + len(late), f"{len(came)} pods were made, {len(late)} of them late")
        t.check(job.status().get("restarts", 0) == 0, f"restarts: {job.status()}")


def live(operator: Killed, kill: Kill, name: str) -> Seen:
    try:
        return Life(operator, kill, name).live()
    finally:
        operator.stop()


def beside(lane: Lane) -> Killed:
    """The one of a lane, which is the only one there."""
    chart = Operator(lane, "--set", f"watchNamespaces={{{lane.namespace}}}", "--set", "aggregatedRoles=false",
                     "--set", "releaseOnUninstall=false", replicas=0)
    lane.secret()
    return Killed(lane, chart.namespace)


class Lives:
    """Many of them, so many at a time."""

    def __init__(self, t: Scenario, lanes: int) -> None:
        self.t, self.lanes = t, [Lane(t, index) for index in range(lanes)]
        self.operators = {lane.name: beside(lane) for lane in self.lanes}
        self.hits: list[tuple[str, str, Write]] = []

    def undisturbed(self) -> Seen:
        return live(self.operators[self.lanes[0].name], Kill(0), "undisturbed")

    def killed(self, kills: list[Kill]) -> None:
        def one(lane: Lane, kill: Kill) -> None:
            hits = live(self.operators[lane.name], kill, f"{kill.how}-{kill.nth}").hits
            self.hits.extend(hits)
            self.t.say(f"{kill.how} write {kill.nth}: {'; '.join(f'{phase}: {write.what}' for phase, _, write in hits)}")

        in_lanes(self.lanes, kills, one)
        kinds = {(phase, how, write.what) for phase, how, write in self.hits}
        self.t.check(self.hits, "no operator was killed: nobody has come to so many writes")
        self.t.say(f"{len(kills)} lives, killed {len(self.hits)} times, at {len(kinds)} kinds of writes")
        for operator in self.operators.values():
            log = operator.process.log.read_text()
            self.t.check("forbidden" not in log, f"it was refused something: {log[-2000:]}")
