"""The pools of workers: the seam to the dispatcher, and where the workers run."""
