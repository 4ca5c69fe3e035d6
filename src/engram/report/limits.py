"""How much of a large audit one page shows, so that the page stays under a megabyte."""

from collections.abc import Iterator
from dataclasses import dataclass

LARGEST = 950_000
"""Bytes that a page may have; a megabyte is the promise, the rest is margin."""


@dataclass(frozen=True)
class Limits:
    """The most that is shown of anything. What is left out is counted on the page."""

    attacks: int = 40
    charts: int = 12
    points: int = 160
    bins: int = 48
    records: int = 12
    tokens: int = 200
    rows: int = 60
    examples: int = 12
    steps: int = 240
    text: int = 700
    """Characters of one record's text, or of one sentence."""
    name: int = 80
    audits: int = 6

    def halved(self) -> "Limits":
        """Half of everything, but never less than what makes a page worth reading."""
        return Limits(
            attacks=max(self.attacks // 2, 6),
            charts=max(self.charts // 2, 2),
            points=max(self.points // 2, 40),
            bins=max(self.bins // 2, 12),
            records=max(self.records // 2, 2),
            tokens=max(self.tokens // 2, 20),
            rows=max(self.rows // 2, 8),
            examples=max(self.examples // 2, 2),
            steps=max(self.steps // 2, 40),
            text=max(self.text // 2, 80),
            name=max(self.name // 2, 24),
            audits=max(self.audits // 2, 2),
        )


def shrinking() -> Iterator[Limits]:
    """Ever smaller limits, until they cannot shrink."""
    limits = Limits()
    while True:
        yield limits
        smaller = limits.halved()
        if smaller == limits:
            return
        limits = smaller
