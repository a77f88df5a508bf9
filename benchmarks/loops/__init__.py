"""Training loops that are timed against each other: one per file, each with a function `train`."""
