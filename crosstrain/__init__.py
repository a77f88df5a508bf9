"""The Python interface: train a model with a source and a target, and predict with the champion.

It runs the same flow, store and registry as the command line. Importing it imports nothing heavy.

>>> import crosstrain
>>> result = crosstrain.fit(source="data/animals", target="data/plants")  # doctest: +SKIP
>>> crosstrain.load("plants").predict(["rose.jpg"])  # doctest: +SKIP
"""

from crosstrain.fitting import Result, fit
from crosstrain.predicting import Predictor, load
from crosstrain.projects import init

__all__ = ["Predictor", "Result", "fit", "init", "load"]
