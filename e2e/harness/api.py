"""The API server without kubectl, which takes ten times as long: for what is looked at again and again."""

import http.client
import json
import ssl
from collections.abc import Iterator

from .shell import STATE, Failed

SERVER = ("127.0.0.1", 6443)
PLACES = {"sj": ("apis/weir.dev/v1alpha1", "statefuljobs"), "jsnap": ("apis/weir.dev/v1alpha1", "jobsnapshots"),
          "pod": ("api/v1", "pods")}


def _connection() -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=STATE / "pki/ca.crt")
    context.load_cert_chain(STATE / "pki/admin.crt", STATE / "pki/admin.key")
    return http.client.HTTPSConnection(*SERVER, context=context)


def place(kind: str, namespace: str) -> str:
    """Where the objects of a namespace are."""
    group, plural = PLACES[kind]
    return f"/{group}/namespaces/{namespace}/{plural}"


def get(path: str) -> dict:
    """What is there; nothing is an empty one."""
    return ask("GET", path)


def ask(method: str, path: str, body: dict | None = None, kind: str = "application/json") -> dict:
    """One request. What is not there, or is another one by now, is answered by nothing."""
    connection = _connection()
    try:
        connection.request(method, path, body=None if body is None else json.dumps(body), headers={"Content-Type": kind})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status in (404, 409):
            return {}
        if answer.status // 100 != 2:
            raise Failed(f"{method} {path}: {answer.status} {said[:300].decode(errors='replace')}")
        return json.loads(said)
    finally:
        connection.close()


def watch(path: str) -> Iterator[tuple[str, dict]]:
    """(kind of event, object), from all that is there on; it ends when the server says so."""
    connection = _connection()
    try:
        connection.request("GET", f"{path}{'&' if '?' in path else '?'}watch=1")
        answer = connection.getresponse()
        while line := answer.readline():
            event = json.loads(line)
            if event["type"] == "ERROR":
                return   # it was left behind: whoever watches begins anew
            yield event["type"], event["object"]
    finally:
        connection.close()
