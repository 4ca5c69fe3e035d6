"""`engram demo`: the whole story on embedded data."""

from dataclasses import dataclass
from pathlib import Path

from engram.cli.output import Progress, tell
from engram.cli.parse import Common, Printed, parse
from engram.engine import demo as run_demo
from engram.engine import pick_device
from engram.engine.demo import QUICK, WHOLE


@dataclass(frozen=True)
class DemoOptions(Common):
    """Options of `engram demo`."""

    out: Path = Path("demo")
    """Folder for the demo's targets and runs."""
    quick: bool = False
    """Tell it sooner, on fewer letters and with a smaller model; the intervals are wider."""


def demo(args: list[str]) -> int:
    """Letters, fine-tune, audit, forget one owner, audit again, report."""
    try:
        options = parse("engram demo", args, DemoOptions).options
    except Printed:
        return 0
    watch = Progress()
    size = QUICK if options.quick else WHOLE
    done = run_demo(options.out, options.seed, pick_device(options.device), watch, size)
    watch.close()
    story = done.forgotten.story
    path = story.folder / "report.html"
    first = done.audit.document
    leak = story.document["leak"]
    lines = [
        "1. A small language model was fine-tuned on fictional clinic letters.",
        f"2. Audit: {first['verdict']['sentence']}",
    ]
    if leak:
        given = {o["model"]: o["text"].strip() for o in leak["outputs"]}
        lines.append(
            f"3. What it gave away of {leak['owner']} ({leak['field'] or 'text'}): after "
            f'"...{leak["prefix"][-60:]}" it wrote "{next(iter(given.values()))}".'
        )
    lines += [
        f"4. It was asked to forget them. {story.document['verdict']['sentence']}",
        "",
        f"report: {path}",
    ]
    document = {"report": str(path), "audit": str(done.audit.folder), "owner": done.owner,
                "verdict": story.document["verdict"], "leak": leak}  # fmt: skip
    tell(document, lines, options.json)
    return 0
