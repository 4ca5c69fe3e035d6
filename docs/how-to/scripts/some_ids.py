"""Print the ids of some records that a target was trained on: `python some_ids.py TARGET COUNT`."""

import sys

from pyarrow import parquet

folder, count = sys.argv[1], int(sys.argv[2])
rows = parquet.read_table(f"{folder}/ledger.parquet").to_pylist()
print(",".join([row["id"] for row in rows if row["role"] == "trained"][:count]))
