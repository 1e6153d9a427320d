#!/usr/bin/env bash
# The end of `make demo`: compares the output with the independent engine's and says what to try next.
set -euo pipefail
cd "$(dirname "$0")/.."
weir=$1
# Counts and extremes are compared exactly here, means in the tests (floats to 1e-9).
strip() { sed -E 's/"mean_delay":[^,]*,//' | LC_ALL=C sort; }
for sink in delays aircraft; do
    expected=e2e/expected/flights.$sink.ndjson
    if ! diff -q <(cat examples/out/$sink/*.ndjson | strip) <(strip <$expected) >/dev/null; then
        echo "demo: examples/out/$sink differs from $expected" >&2
        exit 1
    fi
done
delays=$(cat examples/out/delays/*.ndjson | wc -l)
aircraft=$(cat examples/out/aircraft/*.ndjson | wc -l)
cat <<EOF

$delays rows in examples/out/delays and $aircraft in examples/out/aircraft, the same as DuckDB computes from the same
file. What to look at:

  head -3 examples/out/delays/*.ndjson | head -12
  grep -h N328AA examples/out/aircraft/*.ndjson
  $weir state show weir-data/flights/state

What to try next:

  # The same job, slowed down, killed in the middle, as hard as you like, and run again: the output is the same.
  sed 's|flights.parquet|flights.parquet, rate: 50000|' examples/flights.yaml > examples/slow.yaml
  $weir run examples/slow.yaml --fresh & sleep 3; kill -9 \$!; $weir run examples/slow.yaml
  # Your own job: copy examples/flights.yaml, change it, and let Weir check it.
  $weir validate examples/flights.yaml

And a job without end, to change while it runs. It counts 20,000 words a second into examples/out/wordcount, anew
every 5 s:

  $weir run examples/wordcount.yaml
  # Edit replicas in that file, save, and the job says how long its rows stood still. Kill a worker (kill -9 and a
  # process that the job has named): it says "lost worker" and counts on. Ctrl-C stops it with a last checkpoint.
  # Nothing is lost or counted twice: all counts together are the "rows in" that it says at the end.
  sort -t: -k3 -rn examples/out/wordcount/*.ndjson | head -5
  awk -F '[:,]' '{words += \$4} END {print words}' examples/out/wordcount/*.ndjson
EOF
