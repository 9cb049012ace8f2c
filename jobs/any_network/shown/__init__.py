"""What the terminal, the report page and the README show of the experiment."""
