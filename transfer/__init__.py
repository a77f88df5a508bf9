"""The library: data, transfer methods, training, honest comparison.

Knows torch, numpy, pydantic and decoders; knows no orchestrator, tracker, versioner or validator.
"""
