"""Numbers that carry their uncertainty: ROC, intervals, many looks, owners and the split audit.

Everything here is NumPy on scores and labels; no model is ever asked. A score is higher where
the record is more likely a member, and members are always the positive class. SciPy and
scikit-learn are imported only inside the functions that need them.
"""

from engram.stats.intervals import clopper_pearson, mean_finding, paired_difference, proportion
from engram.stats.many import Headline, auc_p_value, bonferroni, headline, holm
from engram.stats.near_duplicates import Overlap, near_duplicates
from engram.stats.owners import OwnerScores, by_owner
from engram.stats.roc import (
    auc,
    balanced_accuracy,
    distance_from_chance,
    roc_curve,
    thin,
    tpr_at_fpr,
)
from engram.stats.split_audit import SplitAudit, audit_split

__all__ = [
    "Headline",
    "Overlap",
    "OwnerScores",
    "SplitAudit",
    "auc",
    "auc_p_value",
    "audit_split",
    "balanced_accuracy",
    "bonferroni",
    "by_owner",
    "clopper_pearson",
    "distance_from_chance",
    "headline",
    "holm",
    "mean_finding",
    "near_duplicates",
    "paired_difference",
    "proportion",
    "roc_curve",
    "thin",
    "tpr_at_fpr",
]
