"""Training: `fit`, which writes a run, and what happens in it."""
