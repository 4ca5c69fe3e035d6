"""2,708 papers that cite each other, 1,433 words that each has or not, in 7 subjects: a graph."""

from collections.abc import Mapping

import numpy as np

from engram.core.split import Split
from engram.data.named import DataSet
from engram.data.parsing import arrays_of, classes_of
from engram.parts.graph import graph_split

FILE = "cora.npz"
CLASSES = (
    "theory", "reinforcement learning", "genetic algorithms", "neural networks",
    "probabilistic methods", "case based", "rule learning",
)  # fmt: skip
ABOUT = DataSet(
    folder="cora",
    source="github.com/kimiyoung/planetoid at af6abf4 (data/ind.cora.*)",
    licence="MIT (repository); the data of McCallum and of Sen et al. for research",
    files={FILE: "cc6d5ed91258ed588d3b96d5174e6c81e12ba57879e59ddcb3a8245ffc2f2b39"},
    made="npz with `feat_row`, `feat_col`, `feat_val` and `shape` of the words, `labels`, and "
    "`edges` of shape (5278, 2), without self-loops and copies",
)


def load(files: Mapping[str, bytes], options: Mapping[str, str]) -> Split:
    """One record a paper; who cites whom is not told."""
    arrays = arrays_of(files[FILE])
    words = np.zeros(tuple(arrays["shape"]), np.float32)
    words[arrays["feat_row"], arrays["feat_col"]] = arrays["feat_val"]
    return graph_split(
        "cora", words, arrays["labels"].astype(np.int64), arrays["edges"].T, classes_of(CLASSES)
    )
