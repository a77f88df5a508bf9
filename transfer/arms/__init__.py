"""What a run trains: the choice of arms, source pretraining, each arm, and the time budget.

An arm is a method, its sources and a seed.
"""
