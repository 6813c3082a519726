"""Data sets: folders, lists and object stores enter; samples in a fixed order, with their ground truth, leave."""
