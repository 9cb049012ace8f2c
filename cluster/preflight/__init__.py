"""This room finds what would break an expensive run, before the run starts."""
