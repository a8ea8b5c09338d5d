"""What every other room uses: errors, files, serialization."""
