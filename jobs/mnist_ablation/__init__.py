"""Figure 3: how far learning drifts from backpropagation when a condition is broken."""
