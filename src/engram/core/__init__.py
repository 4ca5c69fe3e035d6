"""Four nouns (Split, Target, Scores, Finding) and five arrows between them.

Importing this package does not import torch.
"""

from engram.core.arrows import Attack, Edit, Measure, Recipe, Run, Transform
from engram.core.errors import EngramError, nearest
from engram.core.finding import Finding
from engram.core.ledger import Ledger
from engram.core.paper import Paper
from engram.core.randomness import seed_of, stream, torch_seeded, torch_stream
from engram.core.scores import Scores
from engram.core.signals import SCORED, TOO_SHORT, TokenSignals
from engram.core.split import Split, check_disjoint
from engram.core.target import ACCESS, Access, Draft, Lineage, Target

__all__ = [
    "ACCESS", "SCORED", "TOO_SHORT", "Access", "Attack", "Draft", "Edit", "EngramError",
    "Finding", "Ledger", "Lineage", "Measure", "Paper", "Recipe", "Run", "Scores", "Split",
    "Target", "TokenSignals", "Transform", "check_disjoint", "nearest", "seed_of", "stream",
    "torch_seeded", "torch_stream",
]  # fmt: skip
