"""crosstrain in Python: train a model with a source and a target, and ask the champion.

    import crosstrain

    result = crosstrain.fit(source="data/animals", target="data/plants")
    print(result.verdict, result.table)
    crosstrain.load("plants").predict(["rose.jpg"])

The same flow, store and registry as the command line's. Importing this imports nothing heavy.
"""

from crosstrain.fitting import Result, fit
from crosstrain.predicting import Predictor, load
from crosstrain.projects import init

__all__ = ["Predictor", "Result", "fit", "init", "load"]
