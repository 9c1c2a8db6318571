"""Suites for real data, one file each. `evals.catalog.SUITES` lists them, with those of the miniature world."""
