"""A model as one file that needs neither torch nor crosstrain, and how near its answers are."""
