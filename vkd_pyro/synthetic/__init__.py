"""The synthetic corpus, and the real layouts that it can be written in."""
