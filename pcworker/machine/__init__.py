"""The machine that computes: its device, its processor, and what produced a result."""
