"""Shows the detection runs: on the terminal and on the report page."""
