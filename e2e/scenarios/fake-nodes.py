"""A hundred pods on nodes that run nothing (kwok), beside a real one: what scale-1000 stands on."""

from harness.scenario import Scenario, restricted_pod

DEADLINE_SECONDS = 180
SUBSET = False
PODS = 100


def run(t: Scenario) -> None:
    t.fake_nodes(2)
    pods = []
    for n in range(PODS):
        pod = restricted_pod(f"fake-{n}", ["validate", "/nothing"])
        pod["spec"] |= {"nodeSelector": {"type": "fake"}, "tolerations": [{"key": "fake", "operator": "Exists"}]}
        pod["metadata"]["labels"] = {"fake": "yes"}
        pods.append(pod)
    t.apply(pods)
    t.until("all run", lambda: all(pod["status"].get("phase") == "Running" for pod in t.pods("fake=yes")))
    t.check(len(t.pods("fake=yes")) == PODS, "some are missing")
    t.apply(restricted_pod("real", ["--version"]))
    code, log = t.finished("real")
    t.check(code == 0 and log.startswith("weir "), f"exit {code}: {log}")
    t.check(t.get("pod", "real")["spec"]["nodeName"].startswith("node"), "a pod without toleration came to a fake node")
