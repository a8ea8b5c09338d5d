"""Labels: names, policies, and reports to labels."""
