"""What is trained: configurations, trials, and digests of what they have learnt."""
