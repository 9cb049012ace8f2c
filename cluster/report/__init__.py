"""Shows what was collected: tables and figures in the store, and a report on the terminal."""
