"""Where the time of Figure 3 goes."""
