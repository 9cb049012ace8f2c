"""Compares two sweeps: which cells are equal bit for bit, and by how much the others differ."""
