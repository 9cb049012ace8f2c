"""This job measures where the time of Figure 3 goes."""
