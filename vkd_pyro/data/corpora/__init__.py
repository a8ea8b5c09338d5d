"""One reader a corpus; the synthetic one, and its writer in the layouts of the others."""
