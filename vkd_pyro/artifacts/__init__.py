"""What is on disk: runs, bundles, checkpoints, exports; one function loads each."""
