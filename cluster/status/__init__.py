"""How a sweep stands."""
