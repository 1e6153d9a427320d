#!/usr/bin/env bash
# Brings the programs of the end-to-end tests into the user's cache folder, each once per version.
#
#   install.sh SET…    SET is cluster, tools or extra (default: cluster tools); prints the folders for PATH, joined by ":"
#
# Programs in Go are built from a module of their own beside this file, so that versions and checksums are pinned by
# go.mod and go.sum; a changed module is built anew, beside the old one. What Debian has is unpacked into the cache, not
# installed: no service of it is started, and nothing of the machine's own is replaced. Only iptables, openssl and
# iproute2 are installed, and only where they are missing.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/weir/e2e
mkdir -p "$CACHE"
exec 3>&1 1>&2   # standard output is for the answer alone

command -v go >/dev/null || { echo "install: Go is missing (1.26 or later)"; exit 1; }
FOLDERS=()
say() { echo "install: $*" >&2; }

# missing FILE: whether it still has to be made. Only then one waits for others who may be making it.
missing() {
  [ ! -e "$1" ] || return 1
  exec 9>"$CACHE/lock"
  flock 9
  [ ! -e "$1" ]
}

# go_program NAME FOLDER PACKAGE [LDFLAGS]: builds PACKAGE of the module in FOLDER, unless that version is there.
go_program() {
  local name=$1 folder=$2 package=$3 flags="-s -w ${4:-}" key into began=$SECONDS
  key=$(cd "$folder" && { echo "$package $flags"; find . -name '*.go' -o -name 'go.*' | LC_ALL=C sort | xargs cat; } | sha256sum | cut -c1-12)
  into=$CACHE/$name-$key
  if missing "$into/$name"; then
    say "$name is built (once per version)"
    rm -rf "$into.part"
    # Of all these only the kubelet is linked with C by its makers too.
    (cd "$folder" && { [ "$name" = kube ] || export CGO_ENABLED=0; } && go build -trimpath -mod=readonly -ldflags "$flags" -o "$into.part/$name" "$package")
    [ "$name" != kube ] || ln -s kube "$into.part/kubectl"   # one program; its name says which part it is
    [ "$name" != kwok ] || stages "$folder" >"$into.part/stages.yaml"
    rm -rf "$into" && mv "$into.part" "$into"
    say "$name is there after $((SECONDS - began)) s"
  fi
  FOLDERS+=("$into")
}

# What kwok makes of nodes and pods stands in files of its module; without them it ends at once.
stages() {
  local stage file
  stage=$(cd "$1" && go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
  for file in "$stage"/{node/fast,node/heartbeat-with-lease,pod/fast}/*.yaml; do
    case $file in */kustomization.yaml) ;; *) echo ---; cat "$file" ;; esac
  done
}

# debian NAME PACKAGE…: packages of this machine's Debian, unpacked into one folder.
debian() {
  local name=$1 into; shift
  into=$CACHE/$name-$(. /etc/os-release && echo "$VERSION_CODENAME")-$(echo "$*" | sha256sum | cut -c1-6)
  if missing "$into"; then
    say "Debian's $* is unpacked"
    rm -rf "$into.part" && mkdir -p "$into.part/deb"
    (cd "$into.part/deb" && { apt-get download -qq "$@" 2>/dev/null || { apt-get update -qq && apt-get download -qq "$@"; }; })
    for file in "$into.part"/deb/*.deb; do dpkg -x "$file" "$into.part"; done
    rm -rf "$into.part/deb" && mv "$into.part" "$into"
  fi
  FOLDERS+=("$into/usr/sbin" "$into/usr/bin" "$into/usr/lib/cni")
}

machine() {
  local command package missing=()
  for command in iptables:iptables openssl:openssl ip:iproute2; do
    package=${command#*:}
    command -v "${command%:*}" >/dev/null || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  say "apt-get installs ${missing[*]}"
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; }
}

# A control plane and nodes: every Kubernetes component and kubectl in one program; etcd, containerd, runc and CNI.
cluster() {
  local version=v1.34.4 package=k8s.io/component-base/version
  machine
  debian node etcd-server containerd runc containernetworking-plugins
  go_program kube "$HERE/../cluster/kube" . "-X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=34 -X $package.gitTreeState=clean -X $package.gitCommit=unknown"
  go_program pause "$HERE/../cluster/pause" .   # the only program of a pod's sandbox image
}

# What every `make e2e` needs.
tools() {
  go_program versitygw "$HERE/versitygw" github.com/versity/versitygw/cmd/versitygw   # S3 server: atomic create-if-absent, a plain file per object
  go_program helm "$HERE/helm" helm.sh/helm/v4/cmd/helm                               # installs the charts as a user does
  go_program helm-unittest "$HERE/helm-unittest" github.com/helm-unittest/helm-unittest/cmd/helm-unittest   # unit tests of charts
  go_program healthcheck "$HERE/healthcheck" .                                        # what kstatus and Argo CD make of an object
  debian promtool prometheus                                                          # promtool checks rules and metrics
}

# Only for `make e2e-all`.
extra() {
  go_program kwok "$HERE/kwok" sigs.k8s.io/kwok/cmd/kwok          # nodes and pods without processes, for a thousand jobs
  go_program minio "$HERE/minio" github.com/minio/minio           # the S3 server that most users know
}

[ $# -gt 0 ] || set -- cluster tools
for set in "$@"; do
  case $set in cluster | tools | extra) "$set" ;; *) sed -n '2,8p' "$0"; exit 2 ;; esac
done
(IFS=: && echo "${FOLDERS[*]}") >&3
