"""Texts that say nearly the same: some tokens replaced by what a filler puts in their place."""
