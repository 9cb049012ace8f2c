"""This job measures how long a weight update takes here and in other libraries."""
