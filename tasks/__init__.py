"""Thin steps of the chain: a Ref and settings in, one library call, a Ref out."""
