"""Profiling: load, clocks and statistics that can be proved, and the profiler built on them."""
