"""The paper's Eq. 5-9: what a step of inference computes, and which steps there are."""
