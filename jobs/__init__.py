"""The commands that researchers run, and the experiments, one folder each, that they copy."""
