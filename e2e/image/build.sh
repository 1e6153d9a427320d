#!/usr/bin/env bash
# Builds the image from a release binary, without a container engine: an OCI archive.
#
#   build.sh BINARY OUT.tar [NAME:TAG]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d) && trap 'rm -rf "$root"' EXIT
"$here/root.sh" "$1" "$root"
python3 "$here/oci.py" "$root" "${3:-weir.dev/weir:e2e}" "$2" --dockerfile "$here/../../Dockerfile"
