"""What the commands say: progress on standard error, results on standard output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engram.cli.plain import plain
from engram.parts.processes import launched

if TYPE_CHECKING:  # the engine imports torch, and who only prints has no need of it
    from engram.engine import EngineRun, Reading

QUIET_SECONDS, PLAIN_SECONDS = 2.0, 15.0


class Progress:
    """A bar on standard error for anything over two seconds; lines where it is no terminal."""

    def __init__(self) -> None:
        self._what, self._since, self._said = "", time.monotonic(), 0.0
        self._bar: Any = None
        self._task: Any = None

    def __call__(self, done: int, total: int, what: str) -> None:
        """Take note that `done` of `total` steps of `what` are finished."""
        if not launched().is_first:
            return
        now = time.monotonic()
        if what != self._what:
            self.close()
            self._what, self._since, self._said = what, now, now
        if now - self._since < QUIET_SECONDS:
            return
        if sys.stderr.isatty():
            self._draw(done, total, what)
        elif now - self._said > PLAIN_SECONDS:
            self._said = now
            print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)
        if done >= total:
            self.close()

    def _draw(self, done: int, total: int, what: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(what, total=total)
        self._bar.update(self._task, completed=done, total=total)

    def listen(self, entry: Mapping[str, Any]) -> None:
        """Say what was observed of a training, or that it went astray, in a line above the bar."""
        from engram.parts.observation_line import is_observation, observation_line

        astray = entry.get("diverged")
        if not (astray or is_observation(entry)):
            return
        if self._bar is None:
            from rich.console import Console

            console = Console(stderr=True)
        else:
            console = self._bar.console
        if astray:
            line = f"note: {astray}; went back to the weights after step {entry['restored_step']}"
        else:
            line = observation_line(entry)
        console.print(line, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def make_run(options: Any, reading: Reading | None = None) -> EngineRun:
    """The engine's run for a command's options."""
    from engram.engine import EngineRun, Reading, pick_device

    more: dict[str, Any] = {}
    if cluster := getattr(options, "cluster", ""):
        from engram.engine.cluster import executor_for

        more["executor"] = executor_for(cluster)
    progress = Progress()
    return EngineRun(
        seed=options.seed,
        device=pick_device(options.device),
        root=options.root,
        scratch=options.root / "scratch",
        reading=reading or Reading(),
        watch=progress,
        listen=progress.listen,
        **more,
    )


def tell(document: Mapping[str, Any], lines: list[str], as_json: bool) -> None:
    """Print one JSON document, or the lines for a person; one process of several does so."""
    if not launched().is_first:
        return
    if as_json:
        print(json.dumps(document, indent=2, allow_nan=False, default=str))
    else:
        print(plain("\n".join(lines)))


def terminal_width() -> int | None:
    """Columns of the terminal that results are read on; None where they go to a file or a pipe."""
    from rich.console import Console

    return Console().width if sys.stdout.isatty() else None


def number(finding: Mapping[str, Any]) -> str:
    """A finding as one line."""
    unit = f" {finding['unit']}" if finding.get("unit") else ""
    split = f" on {finding['split']}" if finding.get("split") else ""
    method = f"{finding['method']}: " if finding["method"] else ""
    if finding["value"] is None:
        return f"{method}{finding['name']}{split}: {finding['note']}"
    return (
        f"{method}{finding['name']}{split} {finding['value']:.4g} "
        f"[{finding['low']:.4g}, {finding['high']:.4g}]{unit} (n={finding['n']:,})"
    )
