"""The ablations of Figure 3: how far learning drifts from BP when a condition of Z-IL is broken."""
