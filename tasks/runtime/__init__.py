"""How a function becomes a step of the chain, and what every step needs.

Paths, artefacts, progress, environment and wording; nothing of machine learning.
"""
