#!/usr/bin/env bash
# S3 servers beside the cluster, each in a network namespace of its own on the pods' bridge, so that one can become
# unreachable without anything else noticing.
#
#   s3.sh up [SERVER]      starts it, unless it runs, on data that is there or anew. SERVER is
#                            s3     versitygw at http://10.244.0.9:7070 (the default)
#                            tls    versitygw at https://10.244.0.10:7443, certified by the cluster's CA
#                            minio  MinIO at http://10.244.0.11:9000 (install.sh extra)
#   s3.sh down [SERVER]    ends it; its data stays
#   s3.sh cut [SERVER]     its packets are dropped, as when a network fails; `mend` ends that
#   s3.sh hang [SERVER]    it accepts connections and never answers (SIGSTOP); `wake` ends that
#
# An object of versitygw is a plain file: SERVER/BUCKET/KEY below the state folder. Key id `weir`, secret `weir-secret`.
# cluster.sh down ends them too, and takes their data away.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
S=${WEIR_E2E_STATE:-/var/lib/weir-e2e}
NAME=${2:-s3}
NET=weir-$NAME
pids=/sys/fs/cgroup/pids; [ -d "$pids" ] || pids=/sys/fs/cgroup
case $NAME in
  s3) ADDRESS=10.244.0.9 URL=http://10.244.0.9:7070/health set=tools ;;
  tls) ADDRESS=10.244.0.10 URL=https://10.244.0.10:7443/health set=tools ;;
  minio) ADDRESS=10.244.0.11 URL=http://10.244.0.11:9000/minio/health/ready set=extra ;;
  *) set -- help ;;
esac

fail() { echo "s3: $*" >&2; exit 1; }
# Its number, if the process of that number is one of ours.
pid() { [ -f "$S/log/$NAME.pid" ] && grep -x "$(cat "$S/log/$NAME.pid")" "$pids/weir-e2e/cgroup.procs"; }
network() {
  ip netns list | grep -q "^$NET\b" && return
  ip netns add "$NET"
  ip link add "$NET" type veth peer name eth0 netns "$NET"
  ip link set "$NET" master weir0 up
  ip -n "$NET" addr add "$ADDRESS/24" dev eth0
  ip -n "$NET" link set lo up && ip -n "$NET" link set eth0 up
}
certificate() {
  cd "$S/pki"
  [ ! -e s3.crt ] || return 0
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout s3.key -subj /CN=s3 -out s3.csr 2>/dev/null
  openssl x509 -req -in s3.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out s3.crt 2>/dev/null \
    -extfile <(printf 'subjectAltName=IP:%s\nextendedKeyUsage=serverAuth\n' "$ADDRESS")
}
serve() {
  local common=(--health /health --quiet)
  export ROOT_ACCESS_KEY=weir ROOT_SECRET_KEY=weir-secret
  export MINIO_ROOT_USER=weir MINIO_ROOT_PASSWORD=weir-secret MINIO_BROWSER=off MINIO_UPDATE=off HOME=$S/$NAME
  case $NAME in
    # Users beside the root user, for whoever rotates credentials; a deleted one is nobody at once.
    s3) exec versitygw --port "$ADDRESS:7070" --iam-dir "$S/users" --iam-cache-disable "${common[@]}" posix "$S/s3" ;;
    tls) exec versitygw --port "$ADDRESS:7443" --cert "$S/pki/s3.crt" --key "$S/pki/s3.key" "${common[@]}" posix "$S/tls" ;;
    minio) exec minio server "$S/minio" --address "$ADDRESS:9000" --quiet ;;
  esac
}
answers() { curl -sf --max-time 2 --noproxy '*' --cacert "$S/pki/ca.crt" "$URL" >/dev/null; }

up() {
  [ -e "$S/bridge" ] || fail "the cluster is not up"
  [ -z "$(pid)" ] || return 0
  export PATH; PATH=$("$HERE/../tools/install.sh" "$set"):$PATH
  network
  mkdir -p "$S/$NAME" "$S/users"
  [ "$NAME" != tls ] || (certificate)
  export -f serve; export S NAME ADDRESS
  (echo "$BASHPID" >"$pids/weir-e2e/cgroup.procs" && echo "$BASHPID" >"$S/log/$NAME.pid" &&
    exec setsid ip netns exec "$NET" bash -c serve) >>"$S/log/$NAME.log" 2>&1 </dev/null &
  for _ in $(seq 80); do answers && return; sleep 0.25; done
  fail "no answer after 20 s: $(tail -n 1 "$S/log/$NAME.log")"
}
down() {
  local running; running=$(pid) || return 0
  kill -CONT "$running"; kill "$running"
  for _ in $(seq 40); do [ -n "$(pid)" ] || break; sleep 0.25; done
  [ -z "$(pid)" ] || kill -9 "$running"
  rm -f "$S/log/$NAME.pid"   # cluster.sh takes a recorded process that is gone for one that has failed
}

case ${1:-} in
  up | down) "$1" ;;
  cut) ip link set "$NET" down ;;
  mend) ip link set "$NET" up ;;
  hang) kill -STOP "$(pid)" ;;
  wake) kill -CONT "$(pid)" ;;
  *) sed -n '2,16p' "$0"; exit 2 ;;
esac
