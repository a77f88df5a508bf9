"""Export of a model as one file that needs neither torch nor crosstrain, and tests of its
answers."""
