"""Sweeps and their plans, before anything runs."""
