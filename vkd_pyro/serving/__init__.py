"""Predictions where they are asked for: over HTTP, and beside an archive of images."""
