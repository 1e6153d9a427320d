#!/usr/bin/env python3
"""Makes an OCI image archive from a folder, without a container engine.

    oci.py ROOT NAME:TAG OUT.tar --dockerfile FILE
    oci.py ROOT NAME:TAG OUT.tar --user UID:GID --entrypoint PROGRAM

With --dockerfile, user, working folder, environment and entrypoint are those of that file's last stage, so that there is
one place that says them. The same folder gives the same archive, byte for byte.
"""

import argparse
import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path


def last_stage(dockerfile: Path) -> dict:
    """The image settings of the Dockerfile's last stage. Knows the forms that ours uses and refuses all others."""
    settings: dict = {}
    for number, line in enumerate(dockerfile.read_text().splitlines(), 1):
        word, _, rest = line.strip().partition(" ")
        match word:
            case "FROM":
                settings = {}
            case "USER":
                settings["User"] = rest
            case "WORKDIR":
                settings["WorkingDir"] = rest
            case "ENTRYPOINT":
                settings["Entrypoint"] = json.loads(rest)
            case "ENV":
                settings.setdefault("Env", []).append(rest)
            case "" | "#" | "ARG" | "COPY" | "RUN":
                pass
            case _ if line.startswith("#"):
                pass
            case _:
                raise SystemExit(f"{dockerfile}:{number}: {word} has no meaning here; teach it to oci.py")
    return settings


def digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def descriptor(kind: str, blob: bytes, **more: object) -> dict:
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(blob), "size": len(blob), **more}


def layer_of(root: Path) -> bytes:
    """The folder as a tar: in the order of names, owned by root, without times."""

    def owned_by_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = ""
        return info

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(root.rglob("*")):
            tar.add(path, arcname=str(path.relative_to(root)), recursive=False, filter=owned_by_root)
    return buffer.getvalue()


def archive(layer: bytes, settings: dict, name: str, out: Path) -> None:
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    config = json.dumps({
        "architecture": architecture, "os": "linux", "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    }).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config), "layers": [descriptor("layer.v1.tar", layer)],
    }).encode()
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rsplit(":", 1)[-1]}
    index = json.dumps({
        "schemaVersion": 2, "manifests": [descriptor("manifest.v1+json", manifest, annotations=names)],
    }).encode()
    with tarfile.open(out, "w") as tar:
        def add(path: str, blob: bytes) -> None:
            info = tarfile.TarInfo(path)
            info.size = len(blob)
            tar.addfile(info, io.BytesIO(blob))

        add("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        add("index.json", index)
        for blob in (layer, config, manifest):
            add("blobs/sha256/" + digest(blob).removeprefix("sha256:"), blob)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("name")
    parser.add_argument("out", type=Path)
    parser.add_argument("--dockerfile", type=Path)
    parser.add_argument("--user")
    parser.add_argument("--entrypoint", nargs="+")
    args = parser.parse_args()
    settings = last_stage(args.dockerfile) if args.dockerfile else {"User": args.user, "Entrypoint": args.entrypoint}
    if not settings.get("User") or not settings.get("Entrypoint"):
        raise SystemExit("an image needs a user and an entrypoint")
    archive(layer_of(args.root), settings, args.name, args.out)


if __name__ == "__main__":
    main()
