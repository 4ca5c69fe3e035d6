"""7,222 speeches from plays by Shakespeare, in groups of 4: text."""

from collections.abc import Mapping

from engram.core.split import Split
from engram.data.named import DataSet
from engram.data.parsing import grouped
from engram.data.sources import whole

ABOUT = DataSet(
    folder="tiny_shakespeare",
    source="github.com/karpathy/char-rnn at 6f9487a (data/tinyshakespeare/input.txt)",
    licence="public domain",
    files={"input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"},
    options={"group": ()},
)


def load(files: Mapping[str, bytes], options: Mapping[str, str]) -> Split:
    """One record for every `group` speeches that follow each other (4)."""
    speeches = [s.strip() for s in files["input.txt"].decode().split("\n\n") if s.strip()]
    group = whole("tiny-shakespeare", "group", options.get("group", "4"), 1, 10_000)
    return Split.of("tiny-shakespeare", text=grouped(speeches, group, "\n\n"))
