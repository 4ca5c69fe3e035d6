"""Searched cells: genotypes, networks of them, and what in them makes members easy to tell.

`genotype` says what a genotype is and reads it from text; `network` builds it; `risk` learns from
measured cells which edges go with a high membership AUC; `rewrite` changes a genotype accordingly.
"""
