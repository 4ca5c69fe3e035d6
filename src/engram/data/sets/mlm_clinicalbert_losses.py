"""Losses of ClinicalBERT and of a reference on 15,701 sentences: scores, not records."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64

from engram.core.errors import EngramError
from engram.data.named import DataSet
from engram.data.scores import REFERENCE, TARGET, ScoresTable, attacks, table

SCORES = True
_MODELS = {TARGET: "clinicalbert", REFERENCE: "pubmed"}
ABOUT = DataSet(
    folder="mlm_clinicalbert_losses",
    source="github.com/privacytrustlab/ml_privacy_meter at 566dbeb "
    "(archive/ml_privacy_meter/attack/mlm_mia/loss_values)",
    licence="MIT",
    files={
        "loss_members_long_clinicalbert.txt": (
            "069c304e17455bb8573bd1c2ace7398f18d782ac8b01dc4f73e626048b48ada3"
        ),
        "loss_members_long_pubmed.txt": (
            "e47a312136b8f0ddc5e473a2e8e8bb30c8ee36ba8bcccdad0a24bb8d2751ea47"
        ),
        "loss_out_long_clinicalbert.txt": (
            "1279e164eb4b642b77ce7c4ed0c58d785a16795e5503bb7bb80d2663551d9791"
        ),
        "loss_out_long_pubmed.txt": (
            "0200ff134456083ff5f8479d85af03dcf3559b1c6a6047a75be0b4bec7893fec"
        ),
        "loss_i2b2_long_clinicalbert.txt": (
            "2eb7016c026a972a1ef8875d9194c31bcb83a4887f582d5bd4abb50e7cd8ab33"
        ),
        "loss_i2b2_long_pubmed.txt": (
            "bc8e480bdee45210f6f122972e472b828b3ffa78202afb019247673816c691a8"
        ),
    },
    options={"outsiders": ("out", "i2b2")},
)


def files(options: Mapping[str, str]) -> tuple[str, ...]:
    """Both models' losses on the members and on the chosen outsiders."""
    sides = ("members", options["outsiders"])
    return tuple(f"loss_{side}_long_{model}.txt" for side in sides for model in _MODELS.values())


def load(files: Mapping[str, bytes], options: Mapping[str, str]) -> ScoresTable:
    """Line i of one model and line i of the other are the same sentence, and stay together.

    With `outsiders=i2b2` the outsiders come from another hospital: then an attack may tell the
    hospitals apart, and not who was trained on.
    """
    sides = ("members", options["outsiders"])
    losses = {
        name: [_losses(files, f"loss_{side}_long_{model}.txt") for side in sides]
        for name, model in _MODELS.items()
    }
    counts = [[len(values) for values in of_model] for of_model in losses.values()]
    if counts[0] != counts[1]:
        raise EngramError(
            f"the two models have {counts[0]} and {counts[1]} losses, but each line of one belongs "
            "to the same line of the other",
            hint="fetch the files again",
        )
    ids = [
        f"{side}-{i + 1:05d}" for side, n in zip(sides, counts[0], strict=True) for i in range(n)
    ]
    numbers = {name: np.concatenate(of_model) for name, of_model in losses.items()}
    columns = attacks(numbers, ABOUT.folder, list(numbers))
    member = np.repeat([True, False], counts[0])
    return table("mlm-clinicalbert-losses", ids, member, columns)


def _losses(files: Mapping[str, bytes], name: str) -> Float64[np.ndarray, " n"]:
    return np.array(files[name].split(), dtype=np.float64)
