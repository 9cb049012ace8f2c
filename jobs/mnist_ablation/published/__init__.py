"""The published digests of trials, and how trials are compared with them."""
