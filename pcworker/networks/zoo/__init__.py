"""Named networks that are graphs: residual, recurrent, convolutional and attention networks."""
