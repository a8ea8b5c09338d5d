"""An evaluation for a person to read: figures, sections, one page."""
