"""Towers: what a tower is before a runtime has it: its weights under one naming, and its equations in numpy."""
