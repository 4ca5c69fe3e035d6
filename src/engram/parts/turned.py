"""A task that needs no labels: how far was a picture turned?"""

import torch

from engram.core import Split
from engram.parts.protection import Pictures


def turned(pictures: Pictures) -> Split:
    """Every picture turned by 0, 90, 180 and 270 degrees; the label says how often.

    Pictures that are not square are turned by 0 and 180 degrees, and labelled 0 and 1.
    """
    rows = pictures.rows_of_pixels(torch.from_numpy(pictures.raw))
    turns = (0, 1, 2, 3) if rows.shape[2] == rows.shape[3] else (0, 2)
    flat = [pictures.flat(torch.rot90(rows, turn, (2, 3))) for turn in turns]
    labels = torch.arange(len(turns)).repeat_interleave(len(rows))
    return Split.of(
        "turned pictures",
        features=torch.cat(flat).numpy(),
        label=labels.numpy(),
        ids=[f"{record}/{turn}" for turn in turns for record in pictures.split.ids],
        shared=dict(pictures.split.shared),
    )
