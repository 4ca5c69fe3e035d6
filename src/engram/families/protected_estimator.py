"""Boosted trees beside those, grown on protected records, that they were continued from."""

from engram.families import estimator
from engram.parts.protected_models import Protected

FAMILY = Protected("protected-estimator", estimator.FAMILY)
