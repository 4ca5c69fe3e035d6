"""All that a method's own file says of it, read without importing the method.

`explained(entry)` gives one method's page as data: what it does, its fields, its paper, what it
needs, a command, and what studies found of it. `engram explain` prints it as text, and the site
of documentation shows it as a page; neither knows more than the other.
"""

from engram.explained.page import Explained, explained, packages, paragraphs
from engram.explained.source import Field
from engram.explained.verdicts import FILE, ClaimRow, StudyRow, read_verdicts, write_verdicts

__all__ = [
    "FILE", "ClaimRow", "Explained", "Field", "StudyRow", "explained", "packages", "paragraphs",
    "read_verdicts", "write_verdicts",
]  # fmt: skip
