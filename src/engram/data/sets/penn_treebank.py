"""887,521 words of newspaper sentences, in groups of 5: text."""

from collections.abc import Mapping

from engram.core.split import Split
from engram.data.named import DataSet
from engram.data.parsing import grouped, rows_of
from engram.data.sources import whole

ABOUT = DataSet(
    folder="penn_treebank",
    source="github.com/timbmg/RNNLM at e26dff5 (data/ptb.zip)",
    licence="none stated there; the text is the Linguistic Data Consortium's, for research",
    files={
        "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
        "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
        "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
    },
    options={"part": ("train", "valid", "test"), "group": ()},
)


def files(options: Mapping[str, str]) -> tuple[str, ...]:
    """The one file of the part that is asked for."""
    return (f"ptb.{options['part']}.txt",)


def load(files: Mapping[str, bytes], options: Mapping[str, str]) -> Split:
    """One record for every `group` sentences that follow each other (5)."""
    ((name, raw),) = files.items()
    sentences = [s.strip() for s in rows_of(raw, name).column("text").to_pylist()]
    group = whole("penn-treebank", "group", options.get("group", "5"), 1, 10_000)
    return Split.of("penn-treebank", text=grouped(sentences, group, "\n"))
