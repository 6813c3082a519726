"""Families: checkpoints of every layout enter; a model's facts and its weights under one naming leave."""
