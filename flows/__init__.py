"""The flows: which tasks run, in which order. Each flow reads like a description of its work."""
