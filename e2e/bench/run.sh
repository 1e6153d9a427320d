#!/usr/bin/env bash
# `make bench`: runs jobs on this machine and says rows per second, CPU time per row of all processes together, and the
# greatest memory of a worker. Prints a table and writes target/bench/run.json.
#
#   e2e/bench/run.sh WEIR OUT [CASE…]   cases: nexmark bids count-1x2 count-2x1 memory
set -euo pipefail
cd "$(dirname "$0")/../.."
weir=$1 out=$2
shift 2
cases=("$@")
[ ${#cases[@]} -gt 0 ] || cases=(nexmark bids count-1x2 count-2x1 memory)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# The greatest resident memory in MiB that any child of process $1 has had, until it ends.
watch_memory() {
    local most=0 peak pid
    while kill -0 "$1" 2>/dev/null; do
        for pid in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
            peak=$(awk '/^VmHWM/ {print int($2 / 1024)}' /proc/"$pid"/status 2>/dev/null || true)
            [ "${peak:-0}" -le "$most" ] || most=$peak
        done
        sleep 0.2
    done
    echo "$most"
}

# run NAME WORKERS SLOTS STATE_MEMORY_MIB MANIFEST
run() {
    local name=$1 workers=$2 slots=$3 memory=$4 manifest=$folder/$1.yaml
    sed "s/REPLICAS/$workers/; s/SLOTS/$slots/; s/MEMORY/${memory}Mi/" "$5" > "$manifest"
    exec 3> "$folder/$name.time"
    (
        TIMEFORMAT='%R %U %S'
        time "$weir" run "$manifest" --data "$folder/data" --fresh 2> "$folder/$name.err"
    ) 2>&3 3>&- &
    local shell=$! pid=
    until pid=$(cat /proc/$shell/task/*/children 2>/dev/null | tr -d ' ') && [ -n "$pid" ]; do
        kill -0 $shell 2>/dev/null || break
        sleep 0.01
    done
    local peak
    peak=$(watch_memory "${pid:-0}")
    if ! wait $shell; then
        cat "$folder/$name.err" >&2
        exit 1
    fi
    local rows seconds user system
    rows=$(grep -o 'rows in [0-9]*' "$folder/$name.err" | tail -1 | cut -d' ' -f3)
    read -r seconds user system < "$folder/$name.time"
    rm -rf "$folder/data"
    awk -v name="$name" -v rows="$rows" -v s="$seconds" -v cpu="$(awk "BEGIN {print $user + $system}")" \
        -v peak="$peak" -v memory="$memory" -v workers="$workers" -v slots="$slots" 'BEGIN {
        printf "%-12s %2d x %d %11d %8.1f %11d %10.2f %9d %8d\n", name, workers, slots, rows, s, rows / s,
            cpu * 1e6 / rows, peak, memory > "/dev/stderr"
        printf "{\"case\": \"%s\", \"workers\": %d, \"slots\": %d, \"rows\": %d, \"seconds\": %.2f, ", name, workers,
            slots, rows, s
        printf "\"rows_per_s\": %d, \"cpu_us_per_row\": %.3f, \"worker_rss_mb\": %d, \"state_memory_mb\": %d}\n",
            rows / s, cpu * 1e6 / rows, peak, memory
    }' >> "$folder/rows"
}

manifest() {
    sed "s/ROWS/$2/; s/DISTINCT/${3:-0}/" e2e/bench/"$1".yaml > "$folder/$1.template"
    echo "$folder/$1.template"
}

printf '%-12s %6s %11s %8s %11s %10s %9s %8s\n' case width rows seconds rows/s 'CPU us/row' 'RSS MiB' 'of state' >&2
for case in "${cases[@]}"; do
    case $case in
        nexmark) run nexmark 1 2 512 "$(manifest nexmark "${ROWS:-20000000}")" ;;
        bids)
            # The example over more events, of which 46 in 50 are bids.
            sed "s/events: 100000/events: ${ROWS:-2000000}/; s/replicas: 2/replicas: 1\n  slots: 2/" \
                examples/bids.yaml > "$folder/bids.template"
            run bids 1 2 512 "$folder/bids.template"
            ;;
        count-1x2) run count-1x2 1 2 512 "$(manifest count "${ROWS:-4000000}" 1000000)" ;;
        count-2x1) run count-2x1 2 1 512 "$(manifest count "${ROWS:-4000000}" 1000000)" ;;
        # 1 GB of input into 0.6 GB of state; ROWS=40000000: 5 GB into 1 GB.
        memory) run memory 1 2 256 "$(manifest count "${ROWS:-8000000}" 8000000)" ;;
        *) echo "bench: no case $case" >&2; exit 2 ;;
    esac
done
mkdir -p "$(dirname "$out")"
machine="$(nproc) cores, $(awk -F': ' '/^model name/ {print $2; exit}' /proc/cpuinfo)"
{
    echo "{\"machine\": \"$machine\", \"rows\": ["
    sed '$!s/$/,/' "$folder/rows"
    echo "]}"
} > "$out"
