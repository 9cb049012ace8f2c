"""The training data (data sets and minibatches) and every random number of a trial."""
