"""Comparison: what each runtime and precision costs in accuracy and buys in speed, in one table."""
