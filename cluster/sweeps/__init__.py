"""This room declares sweeps and makes their plans, before anything runs."""
