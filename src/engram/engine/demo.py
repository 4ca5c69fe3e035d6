"""The whole story on embedded data: letters, fine-tune, audit, forget one owner, audit again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engram import catalog, data
from engram.engine.audit import AuditRun, audit
from engram.engine.forget import Forgotten, forget
from engram.engine.leak import most_recited
from engram.engine.records import known_records, to_forget
from engram.engine.run import EngineRun
from engram.engine.train import train

FEWEST = 4
"""Letters of the owner that is forgotten: fewer would not show whether forgetting worked."""


@dataclass(frozen=True)
class Size:
    """How much is told: the records, the model, and how long it trains.

    Attributes:
        public: Letters that the base model learns to write from.
        private: Letters that it is fine-tuned on, half of them.
        base: Fields of the recipe of the base model.
        epochs: Of fine-tuning.
        battery: Of both audits.
    """

    public: str
    private: str
    base: Mapping[str, int]
    epochs: int
    battery: str


WHOLE = Size(
    "demo:letters?n=400&seed=7",
    "demo:letters?n=240&seed=11",
    {"layers": 3, "width": 128, "vocabulary": 1024, "epochs": 5},
    epochs=14,
    battery="standard",
)
QUICK = Size(
    "demo:letters?n=100&seed=7",
    "demo:letters?n=80&seed=11",
    {"layers": 1, "width": 96, "vocabulary": 512, "context": 160, "epochs": 4},
    epochs=20,
    battery="quick",
)
"""The whole story, on a third of the letters and with a smaller model."""


@dataclass(frozen=True)
class Demo:
    """What the demo made."""

    audit: AuditRun
    forgotten: Forgotten
    owner: str


def demo(
    root: Path, seed: int = 0, device: str = "cpu", watch: Any = None, size: Size = WHOLE
) -> Demo:
    """Tell the story in `root`; every step is found again when it is run again."""
    run = EngineRun(seed=seed, device=device, root=root)
    if watch is not None:
        run = replace(run, watch=watch)
    base = train(
        _method("recipes", "pretrain-lm", **size.base),
        data.read(size.public),
        run,
        source=size.public,
        holdout=0.1,
    )
    letters = data.read(size.private)
    tune = _method(
        "recipes",
        "finetune-lm",
        base=str(base.folder),
        epochs=size.epochs,
        batch_size=8,
        learning_rate=2e-3,
    )
    target = train(tune, letters, run, source=size.private, holdout=0.5)
    known = known_records(target)
    first = audit(
        target, known.trained, known.held_out, run, source=size.private, battery=size.battery
    )
    exposed = [row["owner"] for row in first.document["owners"] if row["records"] >= FEWEST]
    owner = most_recited(target, known.trained, exposed or [first.document["owners"][0]["owner"]])
    records = to_forget(target, known, owner=owner)
    story = forget(
        target,
        known,
        records,
        _method("edits", "gradient-difference"),
        run,
        battery=size.battery,
        title=f"A model learned the letters of {owner} by heart. Can it forget them?",
    )
    return Demo(first, story, owner)


def _method(kind: str, name: str, **fields: Any) -> Any:
    return catalog.find(kind, name).load()(**fields)
