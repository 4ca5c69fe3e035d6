"""Neural classifiers in shards, each of which saw some of the records: `sisa` trains them."""

from engram.families import classifier
from engram.parts.sharded_models import Sharded

FAMILY = Sharded("sharded-classifier", classifier.FAMILY)
