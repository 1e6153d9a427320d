"""The API server without kubectl, which takes ten times as long: for what is looked at again and again."""

import base64
import contextlib
import http.client
import json
import ssl
from collections.abc import Iterator

from .shell import STATE, Failed

SERVER = ("127.0.0.1", 6443)
PLACES = {"sj": ("apis/weir.dev/v1alpha1", "statefuljobs"), "jsnap": ("apis/weir.dev/v1alpha1", "jobsnapshots"),
          "pod": ("api/v1", "pods"), "secret": ("api/v1", "secrets")}
REQUEST_SECONDS_MAX = 30
# The server ends a watch by then, also one in which nothing happens.
WATCH_SECONDS = 240


def connection(seconds: float | None = REQUEST_SECONDS_MAX, as_admin: bool = True) -> http.client.HTTPSConnection:
    """Each wait at it is so long at most."""
    context = ssl.create_default_context(cafile=STATE / "pki/ca.crt")
    if as_admin:
        context.load_cert_chain(STATE / "pki/admin.crt", STATE / "pki/admin.key")
    return http.client.HTTPSConnection(*SERVER, context=context, timeout=seconds)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """A server that does not answer, or not as it should, is a step that could not be done."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Failed(f"{what}: {type(error).__name__}: {error}") from error


def place(kind: str, namespace: str) -> str:
    """Where the objects of a namespace are."""
    group, plural = PLACES[kind]
    return f"/{group}/namespaces/{namespace}/{plural}"


def get(path: str) -> dict:
    """What is there; nothing is an empty one."""
    return ask("GET", path)


def ask(method: str, path: str, body: dict | None = None, kind: str = "application/json") -> dict:
    """One request. What is not there, or is another one by now, is answered by nothing."""
    with _told(f"{method} {path}"), contextlib.closing(connection()) as server:
        server.request(method, path, body=None if body is None else json.dumps(body), headers={"Content-Type": kind})
        answer = server.getresponse()
        said = answer.read()
        if answer.status in (404, 409):
            return {}
        if answer.status // 100 != 2:
            raise Failed(f"{method} {path}: {answer.status} {said[:300].decode(errors='replace')}")
        return json.loads(said)


def secret(namespace: str, name: str) -> dict[str, bytes]:
    """What is in a secret."""
    found = get(f"{place('secret', namespace)}/{name}")
    if not found:
        raise Failed(f"there is no secret {name} in {namespace}")
    return {key: base64.b64decode(value) for key, value in found["data"].items()}


def watch(path: str) -> Iterator[tuple[str, dict]]:
    """(kind of event, object), from all that is there on; it ends when the server says so."""
    with _told(f"watch {path}"), contextlib.closing(connection(WATCH_SECONDS + REQUEST_SECONDS_MAX)) as server:
        server.request("GET", f"{path}{'&' if '?' in path else '?'}watch=1&timeoutSeconds={WATCH_SECONDS}")
        answer = server.getresponse()
        while line := answer.readline():
            event = json.loads(line)
            if event["type"] == "ERROR":
                return   # it was left behind: whoever watches begins anew
            yield event["type"], event["object"]
