"""A git repository and a small sync loop: no diff in any phase, HPA's replicas survive, health and actions as Argo CD has them."""

import json
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import shell
from harness.process import OperatorProcess, define
from harness.scenario import Scenario
from harness.shell import ROOT

DEADLINE_SECONDS = 240
OWN = "e2e-gitops-system"
MANAGER = "--field-manager=sync"
HEALTH = ROOT / "gitops/argocd/weir.dev/StatefulJob/health.lua"
ACTIONS = ROOT / "gitops/argocd/weir.dev/StatefulJob/actions"
GIT = {"GIT_AUTHOR_NAME": "e2e", "GIT_AUTHOR_EMAIL": "e2e@localhost", "GIT_COMMITTER_NAME": "e2e",
       "GIT_COMMITTER_EMAIL": "e2e@localhost", "GIT_CONFIG_GLOBAL": "/dev/null"}


class Repository:
    """Where the job is declared, and what brings its last commit into the cluster."""

    def __init__(self, t: Scenario, folder: Path) -> None:
        self.t, self.folder, self.file = t, folder, folder / "job.yaml"
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", "-C", str(self.folder), *words], env=os.environ | GIT, capture_output=True, text=True, timeout=30)
        self.t.check(done.returncode == 0, f"git {words}: {done.stderr}")
        return done.stdout

    def commit(self, text: str, why: str) -> None:
        self.file.write_text(text)
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", why)
        self.sync()

    def head(self) -> str:
        return self.git("show", "HEAD:job.yaml")

    def sync(self) -> None:
        self.t.kubectl("apply", "--server-side", MANAGER, "-f", "-", text=self.head())

    def assert_no_diff(self, phase: str) -> None:
        """`kubectl diff` exits 1 where there is one, which is a failure here."""
        self.t.kubectl("diff", "--server-side", MANAGER, "-f", "-", text=self.head())
        self.t.say(f"no diff while {phase}")


def run(t: Scenario) -> None:
    secret = t.secret()
    start_operator(t)
    with TemporaryDirectory() as folder:
        repository = Repository(t, Path(folder))
        repository.commit(job(t, secret), "Count")
        repository.assert_no_diff("it begins")
        reach(t, "Running", "Current", "Healthy")
        repository.assert_no_diff("it runs")
        check_replicas(t, repository)
        check_failover(t, repository)
        check_refusal(t, repository, secret)
        check_actions(t, repository)
        t.kubectl("delete", "sj", "counts", "--timeout=60s")


def start_operator(t: Scenario) -> None:
    define(t)
    t.kubectl("create", "namespace", OWN, namespace=False)
    t.undo(lambda: t.kubectl("delete", "namespace", OWN, "--ignore-not-found", "--wait=false", namespace=False))
    OperatorProcess(t, OWN, log="gitops-operator").start()


def check_replicas(t: Scenario, repository: Repository) -> None:
    """git says nothing of `replicas`; what the scale subresource wrote is left alone by each sync."""
    t.check(t.get("sj", "counts")["spec"]["replicas"] == 1, "the schema's default is not 1")
    t.kubectl("scale", "sj/counts", "--replicas=2")
    repository.sync()
    repository.assert_no_diff("it rescales")
    reach(t, "Running", "Current", "Healthy", replicas=2)
    # As HPA does it: a merge of the scale subresource alone.
    t.kubectl("patch", "sj", "counts", "--subresource=scale", "--type=merge", "-p", '{"spec":{"replicas":3}}')
    reach(t, "Running", "Current", "Healthy", replicas=3)
    repository.commit(repository.head().replace("interval: 1s", "interval: 2s"), "Checkpoint less often")
    spec = t.get("sj", "counts")["spec"]
    t.check((spec["replicas"], spec["checkpoint"]["interval"]) == (3, "2s"), f"after a sync: {spec}")
    repository.assert_no_diff("replicas are another's")
    owners = [one["manager"] for one in t.get("sj", "counts")["metadata"].get("managedFields", [])]
    scale = json.loads(t.kubectl("get", "--raw", f"/apis/weir.dev/v1alpha1/namespaces/{t.namespace}/statefuljobs/counts/scale"))
    found = t.pods(scale["status"]["selector"])
    t.check(scale["status"]["replicas"] == 3 and len(found) == 3, f"scale: {scale['status']}, {len(found)} pods, managers {owners}")
    t.say("replicas of the scale subresource survive a sync, and its selector finds the workers")


def check_failover(t: Scenario, repository: Repository) -> None:
    generation = t.get("sj", "counts")["status"]["generation"]
    pod = t.pods("app.kubernetes.io/component=worker")[0]["metadata"]["name"]
    t.kubectl("delete", "pod", pod, "--wait=false")
    repository.assert_no_diff("a worker is lost")
    t.until("the others went on", lambda: t.get("sj", "counts")["status"]["generation"] > generation)
    reach(t, "Running", "Current", "Healthy", replicas=3)


def check_refusal(t: Scenario, repository: Repository, secret: str) -> None:
    """A change that does not fit the state is refused, says so everywhere, and a commit alone cures it."""
    before = repository.head()
    repository.commit(before.replace("key: [key], values: [count(*) as n]", "key: [key], values: [max(seq) as n]"), "Break it")
    t.until("it is refused", lambda: health(t) == ("Failed", "Degraded"))
    repository.assert_no_diff("it is refused")
    repository.commit(before, "Mend it")
    reach(t, "Running", "Current", "Healthy", replicas=3)


def check_actions(t: Scenario, repository: Repository) -> None:
    act(t, "restart")
    asked = t.get("sj", "counts")["metadata"]["annotations"]["weir.dev/restart"]
    t.until("the restart is acknowledged", lambda: t.get("sj", "counts")["status"].get("acknowledged", {}).get("restart") == asked, 90)
    repository.assert_no_diff("it was restarted")
    act(t, "suspend")
    reach(t, "Suspended", "Current", "Suspended")
    repository.sync()
    repository.assert_no_diff("it is suspended")
    t.check(t.get("sj", "counts")["status"]["phase"] == "Suspended", "a sync took the suspension back")
    act(t, "resume")
    reach(t, "Running", "Current", "Healthy", replicas=3)


def act(t: Scenario, action: str) -> None:
    """Runs an action's script and patches what it changed, as Argo CD does."""
    text = json.dumps(t.get("sj", "counts"))
    offered = shell.run("healthcheck", "actions", ACTIONS, text=text).stdout.split()
    t.check(action in offered, f"{action} is not offered, but {offered}")
    after = json.loads(shell.run("healthcheck", "action", ACTIONS / action / "action.lua", text=text).stdout)
    patch = {"metadata": {"annotations": after["metadata"].get("annotations", {})}, "spec": {"suspend": after["spec"]["suspend"]}}
    t.kubectl("patch", "sj", "counts", "--type=merge", "-p", json.dumps(patch))


def health(t: Scenario) -> tuple[str, str]:
    """What kstatus and Argo CD say of the job."""
    text = json.dumps(t.get("sj", "counts"))
    return tuple(shell.run("healthcheck", *how, text=text).stdout.split()[0] for how in (["kstatus"], ["lua", HEALTH]))


def reach(t: Scenario, phase: str, kstatus: str, argo: str, replicas: int | None = None) -> None:
    def there() -> bool:
        found = t.get("sj", "counts")
        status = found.get("status", {})
        is_seen = status.get("observedGeneration") == found["metadata"]["generation"]
        return is_seen and status.get("phase") == phase and replicas in (None, status.get("replicas")) and health(t) == (kstatus, argo)

    t.until(f"it is {phase}: kstatus {kstatus}, Argo CD {argo}", there, 90)


def job(t: Scenario, secret: str) -> str:
    store = json.dumps(t.store() | {"secretRef": {"name": secret}})
    return f"""
apiVersion: weir.dev/v1alpha1
kind: StatefulJob
metadata: {{name: counts, namespace: {t.namespace}}}
spec:
  state: {{uri: {t.bucket.uri("state")}, memory: 64Mi, store: {store}}}
  checkpoint: {{interval: 1s}}
  worker: {{resources: {{requests: {{cpu: 50m, memory: 64Mi}}}}}}
  pipeline:
    - {{id: made, source: {{generate: {{keys: {{distinct: 100}}, rate: 1000}}}}}}
    - {{id: sums, from: made, aggregate: {{key: [key], values: [count(*) as n]}}}}
    - {{id: out, from: sums, sink: {{blackhole: {{}}}}}}
"""
