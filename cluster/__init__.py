"""Sweeps of trials on Ray: declare, plan, dispatch, collect."""
