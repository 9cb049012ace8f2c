"""Trials trained in one arithmetic, whose bits are the same on every machine: see README.md."""
