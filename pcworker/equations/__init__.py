"""The paper's Eq. 5-9 and its learning rules: what an inference step computes, and when."""
