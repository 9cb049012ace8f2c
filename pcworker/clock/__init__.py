"""Measures time and memory: stopwatches, and turns between the things that are compared."""
