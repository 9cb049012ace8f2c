"""This room tells how a sweep stands, from what is in its store."""
