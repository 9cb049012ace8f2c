"""Draws the divergence from backpropagation: Figure 3 for the report, and its panels for papers."""
