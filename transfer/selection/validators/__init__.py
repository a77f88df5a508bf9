"""One validator per file: a score that chooses among trained models without a target label."""
