"""Shows the timing runs: on the terminal, as a figure, and on the report page."""
