"""Work in progress, ready to be shown: last numbers, and their course so far."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from engram.report import charts, wording
from engram.report.page import compact
from engram.store import running
from engram.web.templates import plain

FIRST = ("loss", "kept_loss", "perplexity", "objective", "accuracy", "distance", "epsilon")
"""Numbers that are drawn, the first that there is; else any."""
WORDS = {"lr": "learning rate"}
NOT_DRAWN = ("time", "step", "epoch", "lr")
POINTS = 300


@dataclass(frozen=True)
class Shown:
    """One job.

    Attributes:
        folder: Where its result will be.
        state: In a word, with its tone.
        since: Since its log was last written to, in words.
        facts: The last line of its log.
        figure: The course of one number; empty where there is none yet.
    """

    folder: str
    state: tuple[str, str]
    since: str
    facts: tuple[tuple[str, str], ...]
    figure: Markup


def jobs(root: Path) -> list[Shown]:
    """All jobs of a store."""
    return [_shown(job) for job in running.running(root)]


def _shown(job: running.Job) -> Shown:
    last = job.lines[-1] if job.lines else {}
    kept = [(key, value) for key, value in last.items() if key != "time"][:12]
    since = wording.duration(round(job.since)) + " ago" if job.since < 1e8 else "long ago"
    return Shown(
        folder=job.folder,
        state=_state(job.alive),
        since=since,
        facts=tuple(
            (plain(WORDS.get(key, key), 40), plain(compact(value), 80)) for key, value in kept
        ),
        figure=course_of(job),
    )


def _state(alive: bool | None) -> tuple[str, str]:
    if alive is None:
        return "quiet", "doubt"
    return ("at work", "fine") if alive else ("stopped", "open")


def course_of(job: running.Job) -> Markup:
    """The course of a job's most telling number."""
    last: Mapping[str, object] = job.lines[-1] if job.lines else {}
    others = [key for key in last if key not in NOT_DRAWN]
    for key in (*FIRST, *others):
        points = sorted(dict(job.course(key)).items())
        if len(points) > 1:
            step = -(-len(points) // POINTS)
            return charts.trace(plain(key, 40), points[::step], 0, "")
    return Markup("")
