"""Families: checkpoints of every layout enter; weights under one naming, and the facts of a card, leave."""
