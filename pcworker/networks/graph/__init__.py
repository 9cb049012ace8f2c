"""Predictive coding networks that are graphs: residual, recurrent and attention networks."""
