"""1,000 instructions with their answers: text, instruction, input, output."""

from collections.abc import Mapping

import pyarrow as pa

from engram.core.split import Split
from engram.data.named import DataSet
from engram.data.parsing import rows_of

FILE = "alpaca_1k.jsonl"
ABOUT = DataSet(
    folder="alpaca",
    source="github.com/wujindou/BLOOM-LORA at 11c488c (data/alpaca_data_1k.json)",
    licence="CC BY-NC 4.0",
    files={FILE: "c6c2c3913c333163b2357226322e31fb995bc2ed45fdede4c3996e707ceb3a17"},
    made="the JSON array written as JSON lines",
)


def load(files: Mapping[str, bytes], options: Mapping[str, str]) -> Split:
    """One record an instruction, its input where there is one, and the answer."""
    table = rows_of(files[FILE], FILE)
    texts = [_text(row) for row in table.to_pylist()]
    return Split.from_table("alpaca", table.add_column(0, "text", pa.array(texts)))


def _text(row: Mapping[str, str]) -> str:
    given = f"\n\nInput: {row['input']}" if row["input"] else ""
    return f"Instruction: {row['instruction']}{given}\n\nResponse: {row['output']}"
