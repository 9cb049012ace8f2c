"""Answers questions about a sweep in SQL, also while it runs."""
