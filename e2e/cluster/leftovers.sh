#!/usr/bin/env bash
# Says what a cluster has left on this machine after `cluster.sh down`, a line each; nothing and exit 0 if it is clean.
S=${WEIR_E2E_STATE:-/var/lib/weir-e2e}
found=$(
  [ ! -e "$S" ] || echo "folder $S"
  ip -o link show 2>/dev/null | awk -F ': ' '$2 ~ /^(weir|veth)/ {print "interface " $2}'
  awk -v s="$S/" 'index($2, s) == 1 || $2 ~ /\/netns\/(cni-|weir)/ {print "mount " $2}' /proc/mounts
  ls -d /sys/fs/cgroup/weir-* /sys/fs/cgroup/*/weir-* 2>/dev/null | sed 's/^/control group /'
  ls /var/lib/cni/results/weir* 2>/dev/null | sed 's/^/note of CNI /'
  iptables-save 2>/dev/null | grep -oE '^:KUBE[^ ]*' | sed 's/^:/iptables chain /'
  for exe in /proc/[0-9]*/exe; do
    program=$(readlink "$exe" 2>/dev/null)
    case $program in */weir/e2e/*) pid=${exe#/proc/}; echo "process ${pid%/exe} $program" ;; esac
  done
)
[ -z "$found" ] || { echo "$found"; exit 1; }
