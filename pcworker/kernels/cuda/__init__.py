"""Trains trials with fixed sums on a GPU: the bits of `phases.c`, many trials at once."""
