"""Public archives: fetched, checked, unpacked."""
