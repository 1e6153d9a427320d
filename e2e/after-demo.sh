#!/usr/bin/env bash
# The end of `make demo`: compares the output with the independent engine's and says what to try next.
set -euo pipefail
cd "$(dirname "$0")/.."
weir=$1
expected=e2e/expected/flights.delays.ndjson
rows=$(cat examples/out/delays/*.ndjson | wc -l)
# Counts and extremes are compared exactly here, means in the tests (floats to 1e-9).
strip() { sed -E 's/"mean_delay":[^,]*,//' | LC_ALL=C sort; }
if ! diff -q <(cat examples/out/delays/*.ndjson | strip) <(strip <$expected) >/dev/null; then
    echo "demo: examples/out/delays differs from $expected" >&2
    exit 1
fi
cat <<EOF

$rows rows in examples/out/delays, the same as DuckDB computes from the same file. What to look at:

  head -3 examples/out/delays/*.ndjson | head -12
  $weir state show weir-data/flights/state

What to try next:

  # The same job, slowed down, killed in the middle, as hard as you like, and run again: the output is the same.
  sed 's|flights.parquet|flights.parquet, rate: 50000|' examples/flights.yaml > examples/slow.yaml
  $weir run examples/slow.yaml --fresh & sleep 3; kill -9 \$!; $weir run examples/slow.yaml
  # Your own job: copy examples/flights.yaml, change it, and let Weir check it.
  $weir validate examples/flights.yaml
EOF
