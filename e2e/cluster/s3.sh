#!/usr/bin/env bash
# An S3 server (versitygw) beside the cluster, in a network namespace of its own on the pods' bridge, so that it can
# become unreachable without anything else noticing.
#
#   s3.sh up        starts it at http://10.244.0.9:7070, on data that is there already or anew
#   s3.sh down      ends it; its data stays
#   s3.sh cut       its packets are dropped, as when a network fails; `mend` ends that
#   s3.sh hang      it accepts connections and never answers (SIGSTOP); `wake` ends that
#
# An object is a plain file: s3/BUCKET/KEY below the state folder. Key id `weir`, secret `weir-secret`. cluster.sh down
# ends it too, and takes the data away.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
S=${WEIR_E2E_STATE:-/var/lib/weir-e2e}
ADDRESS=10.244.0.9 PORT=7070
pids=/sys/fs/cgroup/pids; [ -d "$pids" ] || pids=/sys/fs/cgroup

fail() { echo "s3: $*" >&2; exit 1; }
# Its number, if the process of that number is one of ours.
pid() { [ -f "$S/log/s3.pid" ] && grep -x "$(cat "$S/log/s3.pid")" "$pids/weir-e2e/cgroup.procs"; }
network() {
  ip netns list | grep -q '^weir-s3' && return
  ip netns add weir-s3
  ip link add weir-s3 type veth peer name eth0 netns weir-s3
  ip link set weir-s3 master weir0 up
  ip -n weir-s3 addr add "$ADDRESS/24" dev eth0
  ip -n weir-s3 link set lo up && ip -n weir-s3 link set eth0 up
}
answers() { curl -sf --max-time 2 --noproxy '*' "http://$ADDRESS:$PORT/health" >/dev/null; }

up() {
  [ -e "$S/bridge" ] || fail "the cluster is not up"
  [ -z "$(pid)" ] || fail "it runs already"
  export PATH; PATH=$("$HERE/../tools/install.sh" tools):$PATH
  network
  mkdir -p "$S/s3"
  export ROOT_ACCESS_KEY=weir ROOT_SECRET_KEY=weir-secret
  (echo "$BASHPID" >"$pids/weir-e2e/cgroup.procs" && echo "$BASHPID" >"$S/log/s3.pid" &&
    exec setsid ip netns exec weir-s3 versitygw --port "$ADDRESS:$PORT" --health /health --quiet posix "$S/s3") >>"$S/log/s3.log" 2>&1 </dev/null &
  for _ in $(seq 80); do answers && return; sleep 0.25; done
  fail "no answer after 20 s: $(tail -n 1 "$S/log/s3.log")"
}
down() {
  local running; running=$(pid) || return 0
  kill -CONT "$running"; kill "$running"
  for _ in $(seq 40); do [ -n "$(pid)" ] || return 0; sleep 0.25; done
  kill -9 "$running"
}

case ${1:-} in
  up | down) "$1" ;;
  cut) ip link set weir-s3 down ;;
  mend) ip link set weir-s3 up ;;
  hang) kill -STOP "$(pid)" ;;
  wake) kill -CONT "$(pid)" ;;
  *) sed -n '2,13p' "$0"; exit 2 ;;
esac
