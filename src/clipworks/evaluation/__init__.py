"""Evaluation: a results file and the truth become accuracy, by class id and never by name."""
