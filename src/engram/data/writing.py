"""What every way of writing records to the disk shares."""

import os
from pathlib import Path

from engram.core.errors import EngramError


def umask() -> int:
    """What new files may not allow; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def unwritable(path: Path, problem: OSError) -> EngramError:
    """What to raise where the disk refuses."""
    return EngramError(
        f"{path} cannot be written ({problem.strerror or problem})",
        hint="is there such a folder, with space and the right to write?",
    )
