"""What model and guide say of a split beside what is true: outputs, tables, comparisons, diagnostics."""
