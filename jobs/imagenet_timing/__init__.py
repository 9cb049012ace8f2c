"""The timing runs of Table 4: what a weight update costs, compared with backpropagation's."""
