#!/usr/bin/env python3
"""Derives the expected results of the examples with an independent engine (DuckDB from PyPI).

    pip install duckdb && python3 e2e/expected/derive.py [path of weir]

Generated bids (which a test of weir-engine holds equal to those of crate `nexmark`) are written by `weir` itself, by
default `target/debug/weir`; only what is computed from them is expected here. Generated words are made here a second
time, from the definition in `engine/src/source/keys.rs` and `keys/zipf.rs`.

Writes one sorted ndjson file per example sink beside this script. The tests compare what Weir wrote with them as
bags, floats to 1e-9. Every query is written here by hand, from the meaning of the pipeline, not from Weir's code.
"""

import contextlib
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import duckdb

HERE = pathlib.Path(__file__).parent
FLIGHTS = HERE.parent.parent / "examples" / "data" / "flights.parquet"

BIDS = """
apiVersion: weir.dev/v1alpha1
kind: StatefulJob
metadata: {name: rows}
spec:
  pipeline:
    - {id: nexmark, source: {generate: {nexmark: {events: 100000, eventsPerSecond: 1}}}}
    - {id: rows, from: nexmark.bid, sink: {files: {uri: rows, format: parquet}}}
"""

WORDS = 100_000
DISTINCT_WORDS = 1_000

QUERIES = {
    "flights.delays": f"""
        select origin,
               strftime(time_bucket(interval 1 hour, scheduled::timestamp), '%Y-%m-%dT%H:%M:%S.000Z') as window_start,
               strftime(time_bucket(interval 1 hour, scheduled::timestamp) + interval 1 hour,
                        '%Y-%m-%dT%H:%M:%S.000Z') as window_end,
               count(*) as flights,
               sum(dep_delay)::double / count(dep_delay) as mean_delay,
               max(dep_delay) as worst
        from '{FLIGHTS}'
        where dep_delay is not null and tailnum is not null
        group by all order by all
    """,
    "flights.aircraft": f"""
        select tailnum, count(*) as flights, sum(distance)::bigint as distance, max(dep_delay) as worst
        from '{FLIGHTS}'
        where dep_delay is not null and tailnum is not null
        group by all order by all
    """,
    "wordcount.counts": """
        select key, count(*) as count from 'words.csv' group by all order by all
    """,
    "bids.statistics": """
        select auction,
               strftime(time_bucket(interval 1 day, date_time::timestamp), '%Y-%m-%dT%H:%M:%S.000Z') as window_start,
               strftime(time_bucket(interval 1 day, date_time::timestamp) + interval 1 day,
                        '%Y-%m-%dT%H:%M:%S.000Z') as window_end,
               count(*) as total_bids,
               count(*) filter (where price < 10000) as rank1_bids,
               count(*) filter (where price >= 10000 and price < 1000000) as rank2_bids,
               count(*) filter (where price >= 1000000) as rank3_bids,
               min(price) as min_price,
               max(price) as max_price,
               sum(price)::double / count(*) as mean_price,
               sum(price)::bigint as sum_price
        from 'rows/*.parquet'
        group by all order by all
    """,
}


def generate_bids(weir: str) -> None:
    """Writes the generated rows below the working folder."""
    pathlib.Path("rows.yaml").write_text(BIDS)
    subprocess.run([weir, "run", "rows.yaml"], check=True, stdout=subprocess.DEVNULL)


def mix(number: int) -> int:
    """Output `number` of splitmix64 seeded with 0."""
    bits = 2**64 - 1
    state = (number + 1) * 0x9E3779B97F4A7C15 & bits
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & bits
    state = (state ^ state >> 27) * 0x94D049BB133111EB & bits
    return state ^ state >> 31


def zipf(seed: int) -> int:
    """Zipf's law with exponent 1 over `DISTINCT_WORDS` numbers, by rejection-inversion: Hörmann and Derflinger 1996."""
    threshold = 2 - math.exp(math.log(2.5) - 1 / 2)
    first, last = math.log(1.5) - 1, math.log(DISTINCT_WORDS + 0.5)
    while True:
        area = last + (mix(seed) >> 11) / 2**53 * (first - last)
        x = math.exp(area)
        rank = min(max(math.floor(x + 0.5), 1), DISTINCT_WORDS)
        if rank - x <= threshold or area >= math.log(rank + 0.5) - 1 / rank:
            return rank - 1
        seed = seed + 1 & 2**64 - 1


def generate_words() -> None:
    """Writes the words of `generate.keys` with skew 1 below the working folder."""
    words = (f"k{zipf(mix(number)):08}\n" for number in range(WORDS))
    pathlib.Path("words.csv").write_text("key\n" + "".join(words))


def main() -> None:
    duckdb.sql("set timezone = 'UTC'")
    root = HERE.parent.parent
    weir = sys.argv[1] if len(sys.argv) > 1 else str(root / "target/debug/weir")
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.chdir(folder):
            generate_bids(str(pathlib.Path(root, weir)))
            generate_words()
            derive()


def derive() -> None:
    for name, query in QUERIES.items():
        result = duckdb.sql(query)
        columns = result.columns
        path = HERE / f"{name}.ndjson"
        with path.open("w") as out:
            for row in result.fetchall():
                out.write(json.dumps(dict(zip(columns, row)), separators=(",", ":")) + "\n")
        print(f"{path.name}: {sum(1 for _ in path.open())} rows")


if __name__ == "__main__":
    main()
