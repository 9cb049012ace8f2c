"""What is learnt from: data sets, minibatches, and every random number."""
