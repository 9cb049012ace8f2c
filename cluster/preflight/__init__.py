"""What would break an expensive run, found before it starts."""
