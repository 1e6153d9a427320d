"""The image runs a whole job in a restricted pod, from bucket to bucket, also through kill -9; a stranger is refused."""

from harness import flights
from harness.scenario import Scenario

# tls has all of it, by TLS.
SUBSET = False
DEADLINE_SECONDS = 180


def run(t: Scenario) -> None:
    job = flights.Standalone(t, rate=30000)
    job.start("first", restart="OnFailure")
    t.until("the first checkpoint's output is there", lambda: t.bucket.rows("out/delays"))

    # Another pod has another data folder, and so is another owner.
    job.start("intruder")
    code, log = t.finished("intruder")
    t.check(code == 2, f"exit {code}: {log}")
    t.contains(log, 'the state of job "flights" is owned by local-')

    t.signal("first", "KILL")
    code, log = t.finished("first")
    t.check(code == 0, f"exit {code}: {log}")
    t.contains(log, "job flights finished")
    restarts = t.get("pod", "first")["status"]["containerStatuses"][0]["restartCount"]
    t.check(restarts == 1, f"the container was started again {restarts} times, not once")
    flights.assert_output(t)

    before = t.bucket.keys()
    job.start("second")
    code, log = t.finished("second")
    t.check(code == 0, f"exit {code}: {log}")
    t.contains(log, "finished already", "nothing was changed")
    t.check(t.bucket.keys() == before, "a second run of a finished job changed the bucket")
