"""Prose: each flow reads like the sentence that describes it."""
