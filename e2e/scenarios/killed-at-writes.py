"""The operator killed at each of its writes, to API server and S3, before and after it is made, and with one that lands late."""

from harness.lives import HOWS, Kill, Lives
from harness.scenario import Scenario

# operator-away has a sample of it.
SUBSET = False
DEADLINE_SECONDS = 1800
LANES = 4


def run(t: Scenario) -> None:
    lives = Lives(t, LANES)
    quiet = lives.undisturbed()
    for phase, writes in quiet.writes.items():
        t.say(f"{phase}: {len(writes)} writes: {', '.join(write.what for write in writes)}")
    lives.killed([Kill(nth, how) for nth in range(1, quiet.most() + 1) for how in HOWS])
    missed = quiet.kinds().keys() - {(phase, write.what) for phase, _, write in lives.hits}
    t.check(not missed, f"never killed at {missed}")
