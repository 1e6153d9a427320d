#!/usr/bin/env bash
# A real Kubernetes on one machine without Docker: etcd, API server, controller manager, scheduler, kube-proxy and one to
# four nodes (each a kubelet with its own containerd and runc), whose pods are real containers.
#
#   cluster.sh install        what it needs, into the user's cache folder (minutes the first time)
#   cluster.sh up             starts it, after clearing what a dead run left; prints the KUBECONFIG to use
#   cluster.sh load A.tar     imports an OCI archive (../image/oci.py makes one from a folder) on every node
#   cluster.sh fake N         adds N nodes without a kubelet, whose pods are Running at once and run nothing (kwok)
#   cluster.sh hang NODE      all processes of a node, its pods' too, stand still; `wake NODE` ends that
#   cluster.sh down           stops everything, also what a killed run left
#
# WEIR_E2E_STATE is the state folder (default /var/lib/weir-e2e), NODES how many nodes (default 1, at most 4). Run as
# root. Every process is started in the control group `weir-e2e` or, pods, in those of the nodes: that record stays
# when a run is killed, and `down` ends exactly those. Uses the bridge weir0 with 10.244.0.0/24, the ports 2379, 2380,
# 6443, 10249 and 10256, and 10248 and 10250 on each node's address.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
S=${WEIR_E2E_STATE:-/var/lib/weir-e2e}
NODES=${NODES:-1}
NODE_IP=10.244.0.1          # the bridge: node 1's address, the pods' gateway, and where the API server is advertised
FAKE_PODS=10.246.0.1/16     # addresses of pods on nodes that run nothing
STOP_TRIES=40               # of a quarter second each, before SIGKILL

fail() { echo "cluster: $*" >&2; exit 1; }
tools() { local found; found=$("$HERE/../tools/install.sh" cluster); export PATH=$found:$PATH; }
hierarchies() { awk '$3 == "cgroup" || $3 == "cgroup2" {print $2}' /proc/mounts; }
# Where the control groups lie that say which processes are ours: any version 1 hierarchy that runc uses too, or the only one.
groups_root() { if [ -d /sys/fs/cgroup/pids ]; then echo /sys/fs/cgroup/pids; else echo /sys/fs/cgroup; fi; }
ours() { find "$(groups_root)"/weir-e2e "$(groups_root)"/weir-node* -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u; }

run() {
  local name=$1; shift
  (echo "$BASHPID" >"$(groups_root)/weir-e2e/cgroup.procs" && exec setsid "$@") >"$S/log/$name.log" 2>&1 </dev/null &
  echo $! >"$S/log/$name.pid"
}
died() {
  local f
  for f in "$S"/log/*.pid; do
    kill -0 "$(cat "$f")" 2>/dev/null || fail "$(basename "$f" .pid) ended: $(tail -n 1 "${f%.pid}.log")"
  done
}
wait_for() {
  local what=$1 tries=$2; shift 2
  for _ in $(seq "$tries"); do "$@" >/dev/null 2>&1 && return; died; sleep 0.25; done
  fail "no $what after $((tries / 4)) s; see $S/log"
}

certificate() { # NAME CN ORGANISATION SUBJECT-ALTERNATIVE-NAMES
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" -subj "/CN=$2/O=$3" -out "$1.csr" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" 2>/dev/null \
    -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$4")
  cat >"$S/$1.kubeconfig" <<K
apiVersion: v1
kind: Config
clusters: [{name: weir, cluster: {server: "https://127.0.0.1:6443", certificate-authority: $S/pki/ca.crt}}]
users: [{name: $1, user: {client-certificate: $S/pki/$1.crt, client-key: $S/pki/$1.key}}]
contexts: [{name: weir, context: {cluster: weir, user: $1}}]
current-context: weir
K
}

certificates() {
  local n
  cd "$S/pki"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -subj /CN=weir-e2e -days 30 -out ca.crt 2>/dev/null
  openssl ecparam -name prime256v1 -genkey -noout -out sa.key; openssl ec -in sa.key -pubout -out sa.pub 2>/dev/null
  certificate apiserver kube-apiserver weir "IP:127.0.0.1,IP:$NODE_IP,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
  certificate admin admin system:masters DNS:admin
  certificate controller-manager system:kube-controller-manager weir DNS:controller-manager
  certificate scheduler system:kube-scheduler weir DNS:scheduler
  for n in $(seq "$NODES"); do certificate "node$n" "system:node:node$n" system:nodes "DNS:node$n,IP:10.244.0.$n"; done
  cd "$S"
}

containerd_files() { # of node $1, whose folder is $2
  # restrict_oom_score_adj: a sandboxed machine may lack CAP_SYS_RESOURCE, and runc then fails with "can't get final child's PID".
  cat >"$2/containerd.toml" <<C
version = 2
root = "$2/containerd/root"
state = "$2/containerd/run"
[grpc]
  address = "$2/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "weir.dev/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$(dirname "$(type -p bridge)")"
    conf_dir = "$2/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "$2/runc"
C
  cat >"$2/cni/10-bridge.conflist" <<C
{"cniVersion": "0.4.0", "name": "weir$1", "plugins": [{"type": "bridge", "bridge": "weir0", "isGateway": false, "hairpinMode": true,
 "ipam": {"type": "host-local", "dataDir": "$2/ipam", "routes": [{"dst": "0.0.0.0/0", "gw": "$NODE_IP"}],
  "ranges": [[{"subnet": "10.244.0.0/24", "gateway": "$NODE_IP", "rangeStart": "10.244.0.$(($1 * 50))", "rangeEnd": "10.244.0.$(($1 * 50 + 49))"}]]}},
 {"type": "portmap", "capabilities": {"portMappings": true}}]}
C
}

kubelet_file() { # of node $1, whose folder is $2
  cat >"$2/kubelet.yaml" <<C
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 10.244.0.$1
healthzBindAddress: 10.244.0.$1
cgroupDriver: cgroupfs
cgroupRoot: /weir-node$1
failSwapOn: false
oomScoreAdj: 0
containerRuntimeEndpoint: unix://$2/containerd.sock
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $S/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $S/pki/node$1.crt
tlsPrivateKeyFile: $S/pki/node$1.key
evictionHard: {}
imageGCHighThresholdPercent: 100
clusterDomain: cluster.local
clusterDNS: [10.96.0.10]
maxPods: 45
podLogsDir: $2/pods
C
}

# One node: its own containerd, CNI range and cgroup root, so that several live side by side on this machine.
node() {
  local n=$1 dir=$S/node$1 hierarchy set=/sys/fs/cgroup/cpuset
  mkdir -p "$dir"/{containerd,kubelet,cni,ipam,pods}
  [ "$n" = 1 ] || ip addr add "10.244.0.$n/24" dev weir0
  containerd_files "$n" "$dir"
  kubelet_file "$n" "$dir"
  for hierarchy in $(hierarchies); do mkdir -p "$hierarchy/weir-node$n"; done
  [ -d "$set/weir-node$n" ] && { cat "$set/cpuset.cpus" >"$set/weir-node$n/cpuset.cpus"; cat "$set/cpuset.mems" >"$set/weir-node$n/cpuset.mems"; }
  run "containerd$n" containerd -c "$dir/containerd.toml"
  wait_for "containerd of node $n" 80 ctr -a "$dir/containerd.sock" version
  ctr -a "$dir/containerd.sock" -n k8s.io images import "$S/pause.tar" >/dev/null
  run "kubelet$n" kube kubelet --config="$dir/kubelet.yaml" --kubeconfig="$S/node$n.kubeconfig" --root-dir="$dir/kubelet" \
    --hostname-override="node$n" --node-ip="10.244.0.$n"
}

# Only what three scenarios look at is written down.
audit_file() {
  cat >"$S/audit.yaml" <<C
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Metadata, userGroups: ["system:serviceaccounts:e2e-quiet-system", "system:serviceaccounts:e2e-scale-1000-system",
                                  "system:serviceaccounts:e2e-upgrade-system"]}
  - {level: None}
C
}

control_plane() {
  audit_file
  cat >"$S/kube-proxy.yaml" <<C
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clusterCIDR: 10.244.0.0/24
clientConnection: {kubeconfig: $S/admin.kubeconfig}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
C
  run etcd etcd --data-dir "$S/etcd" --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync
  run apiserver kube kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --bind-address=0.0.0.0 \
    --advertise-address=$NODE_IP --kubelet-preferred-address-types=InternalIP --client-ca-file="$S/pki/ca.crt" \
    --tls-cert-file="$S/pki/apiserver.crt" --tls-private-key-file="$S/pki/apiserver.key" \
    --kubelet-client-certificate="$S/pki/admin.crt" --kubelet-client-key="$S/pki/admin.key" \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$S/pki/sa.pub" \
    --service-account-signing-key-file="$S/pki/sa.key" --service-cluster-ip-range=10.96.0.0/16 \
    --authorization-mode=Node,RBAC --allow-privileged=true \
    --audit-policy-file="$S/audit.yaml" --audit-log-path="$S/log/audit.json" --audit-log-maxsize=100
  run controller-manager kube kube-controller-manager --kubeconfig="$S/controller-manager.kubeconfig" --leader-elect=false \
    --service-account-private-key-file="$S/pki/sa.key" --root-ca-file="$S/pki/ca.crt" --use-service-account-credentials \
    --horizontal-pod-autoscaler-sync-period=5s \
    --cluster-signing-cert-file="$S/pki/ca.crt" --cluster-signing-key-file="$S/pki/ca.key"
  run scheduler kube kube-scheduler --kubeconfig="$S/scheduler.kubeconfig" --leader-elect=false
}

install() { tools; }

up() {
  local n hierarchy
  case $NODES in [1-4]) ;; *) fail "NODES is 1 to 4, not $NODES" ;; esac
  [ "$(id -u)" = 0 ] || fail "containers need root"
  down
  tools
  ip link show weir0 >/dev/null 2>&1 && fail "another interface is called weir0; it is not ours"
  mkdir -p "$S"/{pki,log,etcd} "$(groups_root)/weir-e2e"
  python3 "$HERE/../image/oci.py" "$(dirname "$(type -p pause)")" weir.dev/pause:1 "$S/pause.tar" --user 65532:65532 --entrypoint /pause
  # It says whose the bridge is, for `down` after a killed run.
  touch "$S/bridge"
  ip link add weir0 type bridge; ip addr add $NODE_IP/24 dev weir0; ip link set weir0 up
  certificates
  export no_proxy="127.0.0.1,10.0.0.0/8" NO_PROXY="127.0.0.1,10.0.0.0/8" KUBECONFIG=$S/admin.kubeconfig
  control_plane
  wait_for "API server" 480 curl -sf --noproxy "*" --cacert "$S/pki/ca.crt" https://127.0.0.1:6443/readyz
  for n in $(seq "$NODES"); do node "$n"; done
  run kube-proxy kube kube-proxy --config="$S/kube-proxy.yaml" --hostname-override=node1
  for n in $(seq "$NODES"); do wait_for "ready node $n" 240 bash -c "kubectl get node node$n | grep -q ' Ready'"; done
  wait_for "default service account" 120 kubectl get serviceaccount default
  echo "export KUBECONFIG=$KUBECONFIG"
}

load() {
  local sock; tools
  for sock in "$S"/node*/containerd.sock; do ctr -a "$sock" -n k8s.io images import "$1" >/dev/null; done
}

# Pods come there only with the node selector `type: fake` and a toleration of the taint `fake`.
fake() {
  local n nodes="" kwok others
  kwok=$("$HERE/../tools/install.sh" extra); kwok=${kwok%%:*}
  tools
  export KUBECONFIG=$S/admin.kubeconfig no_proxy="127.0.0.1,10.0.0.0/8" NO_PROXY="127.0.0.1,10.0.0.0/8"
  # Workers' pods have a kubelet of their own (harness/workers.py).
  others="    - {key: '.metadata.labels[\"app.kubernetes.io/component\"]', operator: NotIn, values: [worker]}"
  awk -v others="$others" '{print} /^    kind: / {pod = /Pod/} pod && /^    matchExpressions:/ {print others}' "$kwok/stages.yaml" >"$S/stages.yaml"
  # Only nodes with this annotation are its own: the real ones have kubelets.
  [ -e "$S/log/kwok.pid" ] || run kwok "$kwok/kwok" --kubeconfig "$KUBECONFIG" --config "$S/stages.yaml" \
    --manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake --node-lease-duration-seconds=40 --server-address 127.0.0.1:10247
  # Whoever wants to be the pod of a worker there can listen at these.
  ip addr replace "$FAKE_PODS" dev lo
  for n in $(seq "$1"); do
    nodes+="{\"apiVersion\": \"v1\", \"kind\": \"Node\", \"metadata\": {\"name\": \"fake$n\", \"labels\": {\"type\": \"fake\"},
      \"annotations\": {\"kwok.x-k8s.io/node\": \"fake\"}}, \"spec\": {\"taints\": [{\"key\": \"fake\", \"effect\": \"NoSchedule\"}]},
      \"status\": {\"allocatable\": {\"cpu\": 1000, \"memory\": \"1Ti\", \"pods\": 1000}, \"capacity\": {\"cpu\": 1000, \"memory\": \"1Ti\", \"pods\": 1000}}}
"
  done
  kubectl apply -f - <<<"$nodes" >/dev/null
  for n in $(seq "$1"); do wait_for "ready node fake$n" 120 bash -c "kubectl get node fake$n | grep -q ' Ready'"; done
}

# A shim is in its pod's group or in containerd's, and the node's own are in the group of all.
node_processes() { # of NODE
  find "$(groups_root)/weir-$1" -name cgroup.procs -exec cat {} +
  cat "$S/log/kubelet${1#node}.pid" "$S/log/containerd${1#node}.pid"
  pgrep -f "^[^ ]*containerd-shim-runc-v2 .*-address $S/$1/containerd.sock" || true
}
hang() { node_processes "$1" | xargs -r kill -STOP; }
wake() { node_processes "$1" | xargs -r kill -CONT; }

# Ends processes in the order in which they would start each other again: kubelets and servers first, then all that is left.
stop_processes() {
  local file pid
  for file in "$S"/log/*.pid; do
    [ -f "$file" ] || continue
    pid=$(cat "$file")
    # A number alone could be another process by now; the control group says that it is ours.
    ours | grep -qx "$pid" || continue
    case $file in */containerd*) ;; *) kill "$pid" 2>/dev/null || true ;; esac
  done
  for _ in $(seq 8); do [ -n "$(ours)" ] || return 0; sleep 0.1; done
  for _ in $(seq "$STOP_TRIES"); do
    [ -n "$(ours)" ] || return 0
    ours | xargs -r kill -9 2>/dev/null || true
    sleep 0.25
  done
  fail "these processes do not end: $(ours | tr '\n' ' ')"
}

# What pods leave outside of the state folder: their network namespaces, notes of CNI, sockets of shims.
forget_pods() {
  local task path
  for task in "$S"/node*/containerd/run/io.containerd.runtime.v2.task/k8s.io/*/; do
    [ -d "$task" ] || continue
    for path in $(grep -o '"path":"/[a-z/]*/netns/cni-[^"]*"' "$task/config.json" 2>/dev/null | cut -d'"' -f4 | sort -u); do
      umount -l "$path" 2>/dev/null || true
      rm -f "$path"
    done
    rm -f /var/lib/cni/results/*-"$(basename "$task")"-*
    [ ! -f "$task/address" ] || rm -f "$(sed 's|^unix://||' "$task/address")"
  done
  # A kubelet puts this socket there wherever its own folder is.
  [ ! -e "$S/log/kubelet1.pid" ] || rm -f /var/lib/kubelet/device-plugins/kubelet.sock
  rmdir -p --ignore-fail-on-non-empty /var/lib/kubelet/device-plugins /run/containerd/s /var/lib/cni/results 2>/dev/null || true
}

network_down() {
  local server
  [ ! -e "$S/log/kube-proxy.pid" ] || { tools; kube kube-proxy --cleanup >/dev/null 2>&1 || true; }
  # What the kubelet has put there, which no component takes away.
  iptables -D INPUT -j KUBE-FIREWALL 2>/dev/null || true
  iptables -D OUTPUT -j KUBE-FIREWALL 2>/dev/null || true
  iptables -F KUBE-FIREWALL 2>/dev/null && iptables -X KUBE-FIREWALL 2>/dev/null || true
  iptables -t mangle -X KUBE-IPTABLES-HINT 2>/dev/null || true
  iptables -t mangle -X KUBE-KUBELET-CANARY 2>/dev/null || true
  iptables -t nat -X KUBE-KUBELET-CANARY 2>/dev/null || true
  iptables -X KUBE-KUBELET-CANARY 2>/dev/null || true
  for server in s3 tls minio; do
    ip link del "weir-$server" 2>/dev/null || true
    ip netns del "weir-$server" 2>/dev/null || true
  done
  ip addr del "$FAKE_PODS" dev lo 2>/dev/null || true
  ip link del weir0 2>/dev/null || true
}

down() {
  local hierarchy
  stop_processes
  forget_pods
  awk -v s="$S/" 'index($2, s) == 1 {print $2}' /proc/mounts | sort -r | xargs -r -n1 umount -l
  [ ! -e "$S/bridge" ] || network_down
  for hierarchy in $(hierarchies); do
    find "$hierarchy"/weir-e2e "$hierarchy"/weir-node[1-4] -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  rm -rf --one-file-system "$S"
}

case ${1:-} in install | up | down) "$1" ;; load | fake | hang | wake) "$1" "$2" ;; *) sed -n '2,17p' "$0"; exit 2 ;; esac
