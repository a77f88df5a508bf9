"""What a run trains: which arms, the pretraining before them, each arm, within which time.

An arm is a method, its sources and a seed.
"""
