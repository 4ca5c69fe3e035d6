"""Numbers that carry their uncertainty: ROC, intervals, many looks, owners and the split audit.

Everything here is pure NumPy on scores and labels; no model is ever asked. A score is higher
where the record is more likely a member, and members are always the positive class.
"""
