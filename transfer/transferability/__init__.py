"""Which source is worth transferring from, before anything is trained: one measure a file.

Higher is better. `advisor` combines the measures; `source_probing` computes the features.
"""
