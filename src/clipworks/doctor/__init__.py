"""Diagnosis: when scores differ from a reference's, the stage where it begins, and what it probably is."""
