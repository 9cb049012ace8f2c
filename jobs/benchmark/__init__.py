"""How long a weight update takes here, and in other libraries."""
