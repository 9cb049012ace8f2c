"""The mathematics of predictive coding, and beside it what one worker needs to run and store it."""
