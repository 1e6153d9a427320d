"""The API of external metrics, which autoscalers read: served from here, with the values that a scenario sets."""

import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from . import shell
from .scenario import Scenario
from .shell import STATE

GROUP = "external.metrics.k8s.io"
# The address of this machine among the nodes.
ADDRESS = "10.244.0.1"


class Metrics:
    """`values` by name; one that is not there is unknown to whoever asks."""

    def __init__(self, t: Scenario) -> None:
        self.values: dict[str, int] = {}
        self.asked = 0
        server = ThreadingHTTPServer((ADDRESS, 0), type("Handler", (Handler,), {"metrics": self}))
        server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate())
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        t.undo(server.shutdown)
        t.undo(lambda: t.kubectl("delete", "apiservice", f"v1beta1.{GROUP}", "--ignore-not-found", namespace=False))
        t.apply([
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "metrics"},
             "spec": {"type": "ExternalName", "externalName": ADDRESS}},
            {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": f"v1beta1.{GROUP}"}, "spec": {
                "group": GROUP, "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": True,
                "service": {"namespace": t.namespace, "name": "metrics", "port": server.server_address[1]}}}])
        t.kubectl("wait", "--for=condition=Available", f"apiservice/v1beta1.{GROUP}", "--timeout=60s", namespace=False)


def certificate() -> tuple[str, str]:
    """Of nobody: the API server is told not to look."""
    certificate, key = f"{STATE}/pki/metrics.crt", f"{STATE}/pki/metrics.key"
    shell.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=metrics",
              "-days", "30", "-keyout", key, "-out", certificate)
    return certificate, key


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    metrics: Metrics

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        version = f"{GROUP}/v1beta1"
        if name == "v1beta1":
            self.say({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [
                {"name": one, "singularName": "", "namespaced": True, "kind": "ExternalMetricValueList", "verbs": ["get"]}
                for one in self.metrics.values]})
        elif name in self.metrics.values:
            self.metrics.asked += 1
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            self.say({"kind": "ExternalMetricValueList", "apiVersion": version, "metadata": {}, "items": [
                {"metricName": name, "metricLabels": {}, "timestamp": now, "value": str(self.metrics.values[name])}]})
        else:
            self.say({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}, 404)

    def say(self, answer: dict, status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
