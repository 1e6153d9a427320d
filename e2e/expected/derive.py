#!/usr/bin/env python3
"""Derives the expected results of the examples with an independent engine (DuckDB from PyPI).

    pip install duckdb && python3 e2e/expected/derive.py

Writes one sorted ndjson file per example sink beside this script. The tests compare what Weir wrote with them as
bags, floats to 1e-9. Every query is written here by hand, from the meaning of the pipeline, not from Weir's code.
"""

import json
import pathlib

import duckdb

HERE = pathlib.Path(__file__).parent
FLIGHTS = HERE.parent.parent / "examples" / "data" / "flights.parquet"

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
}


def main() -> None:
    duckdb.sql("set timezone = 'UTC'")
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
