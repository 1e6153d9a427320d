"""A small S3 client: signed requests (version 4) path style. Enough to fill, list and read buckets."""

import datetime
import hashlib
import hmac
import http.client
import json
import ssl
import urllib.parse
import xml.etree.ElementTree as xml
from dataclasses import dataclass
from pathlib import Path

from .shell import Failed

REQUEST_SECONDS_MAX = 30
REGION = "us-east-1"


@dataclass(frozen=True)
class S3:
    """A server and the key that opens it. The defaults are those of e2e/cluster/s3.sh."""

    address: str = "10.244.0.9:7070"
    key: str = "weir"
    secret: str = "weir-secret"
    ca: Path | None = None
    """The authority of its certificate; none: plain HTTP."""

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.ca else 'http'}://{self.address}"

    def _connect(self) -> http.client.HTTPConnection:
        if self.ca is None:
            return http.client.HTTPConnection(self.address, timeout=REQUEST_SECONDS_MAX)
        context = ssl.create_default_context(cafile=self.ca)
        return http.client.HTTPSConnection(self.address, timeout=REQUEST_SECONDS_MAX, context=context)

    def request(self, method: str, path: str, query: dict | None = None, body: bytes = b"") -> tuple[int, bytes]:
        """One request for `path` (as in /bucket/key); the status and the body of the answer."""
        path = urllib.parse.quote(path)
        text = "&".join(f"{urllib.parse.quote(name, safe='')}={urllib.parse.quote(str(value), safe='')}"
                        for name, value in sorted((query or {}).items()))
        connection = self._connect()
        try:
            connection.request(method, path + ("?" + text if text else ""), body, self._signed(method, path, text, body))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"S3: {method} {path}: {type(error).__name__}: {error}") from error
        finally:
            connection.close()

    def _signed(self, method: str, path: str, query: str, body: bytes) -> dict:
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(body).hexdigest()
        headers = {"host": self.address, "x-amz-content-sha256": digest, "x-amz-date": now}
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        request = "\n".join((method, path, query, lines, names, digest))
        scope = f"{now[:8]}/{REGION}/s3/aws4_request"
        to_sign = "\n".join(("AWS4-HMAC-SHA256", now, scope, hashlib.sha256(request.encode()).hexdigest()))
        key = ("AWS4" + self.secret).encode()
        for part in (now[:8], REGION, "s3", "aws4_request", to_sign):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        headers["authorization"] = (f"AWS4-HMAC-SHA256 Credential={self.key}/{scope}, SignedHeaders={names}, "
                                    f"Signature={key.hex()}")
        return headers

    def _done(self, method: str, path: str, query: dict | None = None, body: bytes = b"") -> bytes:
        status, answer = self.request(method, path, query, body)
        if status // 100 != 2:
            raise Failed(f"S3: {method} {path}: {status} {answer[:300].decode(errors='replace')}")
        return answer

    def make_bucket(self, bucket: str) -> None:
        """Makes a bucket; one that is there already, as of an earlier run on a kept cluster, is emptied."""
        status, answer = self.request("PUT", f"/{bucket}")
        if status == 409:
            for key in self.keys(bucket):
                self.delete(bucket, key)
        elif status != 200:
            raise Failed(f"S3: bucket {bucket}: {status} {answer[:300].decode(errors='replace')}")

    def put(self, bucket: str, key: str, body: bytes) -> None:
        self._done("PUT", f"/{bucket}/{key}", body=body)

    def get(self, bucket: str, key: str) -> bytes:
        return self._done("GET", f"/{bucket}/{key}")

    def delete(self, bucket: str, key: str) -> None:
        self._done("DELETE", f"/{bucket}/{key}")

    def keys(self, bucket: str, prefix: str = "") -> dict[str, int]:
        """All keys below `prefix`, with their sizes."""
        found_keys: dict[str, int] = {}
        query = {"list-type": "2", "prefix": prefix}
        while True:
            found = xml.fromstring(self._done("GET", f"/{bucket}", query))
            space = found.tag.removesuffix("ListBucketResult")
            for entry in found.iter(f"{space}Contents"):
                found_keys[entry.findtext(f"{space}Key", "")] = int(entry.findtext(f"{space}Size", "0"))
            if found.findtext(f"{space}IsTruncated") != "true":
                return found_keys
            query["continuation-token"] = found.findtext(f"{space}NextContinuationToken", "")


@dataclass(frozen=True)
class Bucket:
    """One bucket of a server: each scenario has its own."""

    s3: S3
    name: str

    def uri(self, path: str) -> str:
        return f"s3://{self.name}/{path}"

    def put(self, key: str, body: bytes) -> None:
        self.s3.put(self.name, key, body)

    def get(self, key: str) -> bytes:
        return self.s3.get(self.name, key)

    def delete(self, key: str) -> None:
        self.s3.delete(self.name, key)

    def keys(self, prefix: str = "") -> dict[str, int]:
        return self.s3.keys(self.name, prefix)

    def published(self, folder: str) -> list[str]:
        """The files of sinks below a folder that a reader sees; what is staged lies below `_weir`."""
        def is_hidden(key: str) -> bool:
            return any(part.startswith(("_", ".")) for part in key.removeprefix(folder).strip("/").split("/"))

        return [key for key in self.keys(folder.rstrip("/") + "/") if key.endswith(".ndjson") and not is_hidden(key)]

    def staged(self, folder: str) -> list[str]:
        """Output below a folder that nobody has published."""
        return [key for key in self.keys(folder.rstrip("/") + "/") if "/_weir/" in key]

    def rows(self, folder: str) -> list[dict]:
        """The rows of all visible ndjson files in a sink's folder."""
        return [json.loads(line) for key in self.published(folder) for line in self.get(key).splitlines()]
