"""Table 4: what a weight update costs beside backpropagation's."""
