"""Text from outside, shown so that it cannot steer a terminal."""

import unicodedata

from engram.core.characters import TURNING

STEERING = ("Cc", "Cs", "Zl", "Zp")
"""Controls, halves of characters, and separators of lines."""


def plain(text: object, keep: str = "\n\t") -> str:
    r"""The text with every character that steers a terminal written out.

    >>> plain("runs/\x1b[31mred")
    'runs/\\x1b[31mred'
    """
    return "".join(_shown(c) if c not in keep else c for c in str(text))


def _shown(character: str) -> str:
    steers = character in TURNING or unicodedata.category(character) in STEERING
    return ascii(character)[1:-1] if steers else character
