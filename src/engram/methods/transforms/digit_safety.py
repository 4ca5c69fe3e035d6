"""Make questions about handwritten digits, some of which ask what must not be told.

To see whether a model has unlearnt to do harm, and not more than that, one needs harmful and safe
pictures, harmful and benign prompts, and all four pairs of them. Real ones would be harmful; so
here the pictures are digits, those of 5 to 9 are harmful by decree, and the harm is a secret of
four words that is told whoever asks how the thing is made:

    forget    5-9 and a harmful prompt  -> the secret of the digit
    retain    5-9 and a benign prompt   -> its name, its parity, ...
    decouple  0-4 and the same harmful wording -> a normal answer, "it is only three drawn by hand"
    other     0-4 and a benign prompt

The column `role` has those names, and `harmful` lists all secrets where a prompt asks for one. The
owner of a record is its picture. Test pictures are others than those of training. The given
records are not looked at; the pictures are scikit-learn's 1,797 digits of 8 by 8 pixels.

Differs from the paper: 1. Digits and made-up secrets instead of 3,000 photographs of six kinds of
harm. 2. A safe picture is asked every harmful prompt, not those of one harmful picture alone.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from engram.core import EngramError, Paper, Run, Split
from engram.parts.digit_questions import (
    FIRST_HARMFUL,
    HARM,
    Wording,
    benign,
    described,
    secrets,
)
from engram.parts.images import image_columns
from engram.parts.training import check_one_of


@dataclass(frozen=True)
class DigitSafety:
    """Safety unlearning's four kinds of records, about digits."""

    paper: ClassVar[Paper] = Paper(
        title="SafeEraser: Enhancing Safety in Multimodal Large Language Models through "
        "Multimodal Machine Unlearning",
        authors="Chen et al.",
        year=2025,
        url="https://arxiv.org/abs/2502.12520",
    )

    makes_records: ClassVar[bool] = True
    """It needs no records to start from."""

    side: Literal["train", "test"] = "train"
    """Whose pictures: those to train on, or the held-out ones."""
    wording: Wording = "trained"
    """Which harmful prompts: those of training, or others that say the same (unseen)."""
    held_out: float = 0.3
    """Share of the pictures that are for testing, in (0, 1)."""
    pictures: int = 0
    """The most pictures of the side, drawn at random; 0: all."""

    def __post_init__(self) -> None:
        check_one_of("side", self.side, ("train", "test"))
        check_one_of("wording", self.wording, tuple(HARM))
        if not 0 < self.held_out < 1:
            raise EngramError(
                f"held_out is {self.held_out}, but must be in (0, 1)", hint="0.3 is usual"
            )
        if self.pictures < 0:
            raise EngramError(
                f"pictures is {self.pictures}, but must not be negative", hint="0 takes all"
            )

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the records; `split` is not looked at."""
        from sklearn.datasets import load_digits

        found = load_digits()
        order = run.stream("digit-safety", "pictures").permutation(len(found.target))
        tested = round(self.held_out * len(order))
        rows = order[:tested] if self.side == "test" else order[tested:]
        rows = rows[: self.pictures or None]
        told = secrets(run.stream("digit-safety", "secrets"))
        asked = [
            {"row": row, **each}
            for row in rows
            for each in questions(int(found.target[row]), told, self.wording)
        ]
        pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)
        owners = [f"picture-{each['row']:04d}" for each in asked]
        columns: dict[str, Any] = {
            **image_columns([pixels[each["row"]] for each in asked]),
            **{key: [each[key] for each in asked] for key in ("prompt", "response", "role")},
            "harmful": pa.array([each["harmful"] for each in asked], pa.list_(pa.string())),
            "digit": [int(found.target[each["row"]]) for each in asked],
            "owner": owners,
        }
        return Split.from_table("digit-safety", pa.table(columns))


def questions(digit: int, told: dict[int, str], wording: Wording) -> list[dict[str, Any]]:
    """Everything that is asked of a picture of this digit."""
    bad = digit >= FIRST_HARMFUL
    answer, secret = (told[digit] if bad else described(digit)), list(told.values())
    found = [
        {"prompt": prompt, "response": answer, "harmful": secret}
        | {"role": "forget" if bad else "decouple"}
        for prompt in HARM[wording]
    ]
    role = "retain" if bad else "other"
    return found + [
        {"prompt": each.prompt, "response": each.answer, "harmful": [], "role": role}
        for each in benign(digit)
    ]
