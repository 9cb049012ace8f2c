"""How durations are measured."""
