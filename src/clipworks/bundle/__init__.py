"""Bundles: a folder enters; its card, the facts of its model, and its files' names and checksums leave."""
