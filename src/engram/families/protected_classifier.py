"""Neural classifiers beside the one, trained on protected records, that they were tuned from."""

from engram.families import classifier
from engram.parts.protected_models import Protected

FAMILY = Protected("protected-classifier", classifier.FAMILY)
