"""The whole story on embedded data: letters, fine-tune, audit, forget one owner, audit again."""

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

PUBLIC, PRIVATE = "demo:letters?n=400&seed=7", "demo:letters?n=240&seed=11"
FEWEST = 4
"""Letters of the owner that is forgotten: fewer would not show whether forgetting worked."""


@dataclass(frozen=True)
class Demo:
    """What the demo made."""

    audit: AuditRun
    forgotten: Forgotten
    owner: str


def demo(root: Path, seed: int = 0, device: str = "cpu", watch: Any = None) -> Demo:
    """Tell the story in `root`; every step is found again when it is run again."""
    run = EngineRun(seed=seed, device=device, root=root)
    if watch is not None:
        run = replace(run, watch=watch)
    base = train(
        _method("recipes", "pretrain-lm", layers=3, width=128, vocabulary=1024, epochs=5),
        data.read(PUBLIC),
        run,
        source=PUBLIC,
        holdout=0.1,
    )
    letters = data.read(PRIVATE)
    tune = _method(
        "recipes",
        "finetune-lm",
        base=str(base.folder),
        epochs=14,
        batch_size=8,
        learning_rate=2e-3,
    )
    target = train(tune, letters, run, source=PRIVATE, holdout=0.5)
    known = known_records(target)
    first = audit(target, known.trained, known.held_out, run, source=PRIVATE)
    exposed = [row["owner"] for row in first.document["owners"] if row["records"] >= FEWEST]
    owner = most_recited(target, known.trained, exposed or [first.document["owners"][0]["owner"]])
    records = to_forget(target, known, owner=owner)
    story = forget(
        target,
        known,
        records,
        _method("edits", "gradient-difference"),
        run,
        title=f"A model learned the letters of {owner} by heart. Can it forget them?",
    )
    return Demo(first, story, owner)


def _method(kind: str, name: str, **fields: Any) -> Any:
    return catalog.find(kind, name).load()(**fields)
