"""Studies: what a corpus holds, how it is split, read, transformed and batched."""
