"""Who trains on protected pictures: networks and classical classifiers, by name."""

from collections.abc import Mapping
from typing import Any

VICTIMS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "mlp": ("train-classifier", {"architecture": "mlp", "width": 32}),
    "cnn": ("train-classifier", {"architecture": "cnn", "width": 16}),
    "resnet": ("train-classifier", {"architecture": "resnet", "width": 8}),
    "rbf-svm": ("fit-estimator", {"estimator": "rbf-svm"}),
    "1-nn": (
        "fit-estimator",
        {"estimator": "nearest-neighbours", "parameters": ("n_neighbors=1",)},
    ),
    "cnn, augmented": ("robust-classifier", {"architecture": "cnn", "width": 16}),
    "cnn, adversarial": (
        "robust-classifier",
        {"architecture": "cnn", "width": 16, "augment": (), "adversarial": 0.1,
         "adversarial_steps": 3},
    ),
}  # fmt: skip
"""A recipe's name and its fields. The last two know of the protection and train against it."""
NETWORKS = ("train-classifier", "robust-classifier")


def fields_of(victim: str, **training: Any) -> tuple[str, dict[str, Any]]:
    """The recipe and fields of a victim; what concerns training is for networks alone."""
    recipe, fields = VICTIMS[victim]
    return recipe, {**fields, **(training if recipe in NETWORKS else {})}
