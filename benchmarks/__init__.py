"""Each claim, its peers side by side, and its table."""
