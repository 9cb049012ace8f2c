"""The detection runs of Table 3: how often phi finds the inference step t = l."""
