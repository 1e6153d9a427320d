#!/usr/bin/env bash
# Fills a folder with what the image holds: the binary, the libraries that it is linked with, CA certificates for TLS
# and the two files that the C library looks names up by. The Dockerfile runs this script, and so does build.sh, so both
# images have the same layout.
#
#   root.sh BINARY ROOT
set -euo pipefail
binary=$1 root=$2
certificates=/etc/ssl/certs/ca-certificates.crt
[ -s "$certificates" ] || { echo "root.sh: no $certificates; install the package ca-certificates" >&2; exit 1; }
mkdir -p "$root"/{usr/bin,etc/ssl/certs,tmp,var/lib/weir}
install -m 755 "$binary" "$root/usr/bin/weir"
# Lines of ldd: "name => /path (address)", "/path/of/loader (address)", and the kernel's own, which has no path.
ldd "$binary" | grep -o '/[^ ]*' | sort -u | while read -r library; do
  install -D -m 755 "$(realpath "$library")" "$root$library"
done
install -m 644 "$certificates" "$root$certificates"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
echo 'weir:x:65532:65532::/var/lib/weir:/usr/sbin/nologin' >"$root/etc/passwd"
chmod 1777 "$root/tmp"
# The job's user may write here; a volume usually covers it.
chmod 1777 "$root/var/lib/weir"
# What is here and what is not: an image with more is a mistake.
strangers=$(cd "$root" && find . -type f | grep -vE '^\./(usr/bin/weir|lib(64)?/.*|usr/lib/.*|etc/(passwd|nsswitch\.conf|ssl/certs/ca-certificates\.crt))$' || true)
[ -z "$strangers" ] || { echo "root.sh: not part of the image: $strangers" >&2; exit 1; }
