"""A front before the API server and the S3 server for one process: it counts what that process writes, and can stop it at one."""

import http.client
import os
import signal
import threading
import time
import urllib.parse
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from . import api

WRITES = ("POST", "PUT", "PATCH", "DELETE")
# Of a connection between two servers alone.
HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "trailer", "upgrade"}
# Folders of a state.
KINDS = ("claims", "journal", "base", "objects", "pins")
CHUNK_BYTES = 65_536
LATE_SECONDS = 2.0


@dataclass(frozen=True)
class Write:
    """Something that was to be written: `what` names its kind, `path` the very object."""

    what: str
    path: str


class Server(ThreadingHTTPServer):
    """An operator connects more often at once than five times, and waits a second for each that is dropped."""

    request_queue_size = 512
    daemon_threads = True


class Front:
    """For one life of a process. `before`: the write it is killed at is never made; `after`: made, and the answer lost;
    `late`: made some time after the process has died."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.made: list[Write] = []
        self.hit: Write | None = None
        self.pid = 0
        self._left, self._how, self._what = 0, "", ""
        self._dead, self._lock = False, threading.Lock()
        self._server = Server(("127.0.0.1", 0), type("Handler", (Handler,), {"front": self}))
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def arm(self, nth: int, how: str, what: str = "") -> None:
        """The process is to die at its n-th write from now on, if it is said, of one kind. 0: at none."""
        with self._lock:
            self._left, self._how, self._what = nth, how, what

    def close(self) -> None:
        self._dead = True
        self._server.shutdown()
        self._server.server_close()

    # --- called by the handlers ---

    def admits(self, write: Write | None) -> str:
        """What becomes of a request: `yes`, `no`, or how the process dies at it."""
        with self._lock:
            if self._dead:
                return "no"
            if write is None:
                return "yes"
            self.writes.append(write)
            is_counted = self._what in ("", write.what)
            self._left -= is_counted
            if self._left != 0 or not is_counted:
                return "yes"
            self.hit, self._dead = write, True
        if self._how != "after":
            self._kill()
        return self._how

    def answered(self, write: Write | None, status: int, how: str) -> None:
        if write and status < 300:
            self.made.append(write)
        if how == "after":
            self._kill()

    def _kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class Handler(BaseHTTPRequestHandler):
    """One connection of the process. A whole URI (as to an HTTP proxy) is one of the S3 server, a path of the API server."""

    protocol_version = "HTTP/1.1"
    front: Front

    def setup(self) -> None:
        super().setup()
        self.upstream: dict[str, http.client.HTTPConnection] = {}

    def finish(self) -> None:
        for connection in self.upstream.values():
            connection.close()
        try:
            super().finish()
        except OSError:
            pass   # the process has died

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            pass

    def log_message(self, *_: object) -> None:
        pass

    def forward(self) -> None:
        uri = urllib.parse.urlsplit(self.path)
        write = written(self.command, uri)
        how = self.front.admits(write)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if how in ("no", "before"):
            self.close_connection = True
            return
        if how == "late":
            time.sleep(LATE_SECONDS)
        answer = self._ask(uri, body)
        self.front.answered(write, answer.status, how)
        if how == "yes":
            self._pass_on(answer)
        else:
            answer.read()
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = forward

    def _ask(self, uri: urllib.parse.SplitResult, body: bytes) -> http.client.HTTPResponse:
        connection = self.upstream.get(uri.netloc)
        if connection is None:
            # As whoever asks, who says itself how long it waits.
            connection = http.client.HTTPConnection(uri.netloc) if uri.netloc else api.connection(None, as_admin=False)
            self.upstream[uri.netloc] = connection
        path = urllib.parse.urlunsplit(("", "", uri.path or "/", uri.query, ""))
        connection.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in HOP_BY_HOP:
                connection.putheader(name, value)
        connection.endheaders(body)
        return connection.getresponse()

    def _pass_on(self, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        has_none = self.command == "HEAD" or answer.status in (204, 304)
        is_chunked = not has_none and answer.getheader("Content-Length") is None
        if is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        # As it comes: a watch never ends.
        while not has_none and (part := answer.read1(CHUNK_BYTES)):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if is_chunked else part)
        if is_chunked:
            self.wfile.write(b"0\r\n\r\n")
        answer.read()


def written(method: str, uri: urllib.parse.SplitResult) -> Write | None:
    """What a request writes. A lease that is renewed says nothing of any job."""
    if method not in WRITES or "/leases" in uri.path:
        return None
    parts = uri.path.strip("/").split("/")
    if not uri.netloc:
        rest = parts[parts.index("namespaces") + 2:] if "namespaces" in parts else parts[-1:]
        kind = rest[0] + ("/" + rest[2] if len(rest) > 2 else "")
        return Write(f"{method} {kind}", uri.path)
    # s3://BUCKET/state/JOB/RUN/KIND/…, s3://BUCKET/out/JOB/SINK/…; a deletion of many has their names in its body.
    kind = next((part for part in parts[3:] if part in KINDS), "out" if parts[1:2] == ["out"] else "many")
    return Write(f"{method} s3 {kind}", uri.path)
