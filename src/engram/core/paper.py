"""Where a method comes from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A publication: what every method cites."""

    title: str
    authors: str
    year: int
    url: str

    def __str__(self) -> str:
        return f"{self.authors} ({self.year}). {self.title}. {self.url}"
