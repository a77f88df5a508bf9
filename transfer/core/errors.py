"""Named errors. Each says what was found, where, what was expected and what to do about it.

``exit_code`` is what the command line returns when the error ends a run.
"""


class CrosstrainError(Exception):
    """Base class of every error that crosstrain raises on purpose: a step failed and can resume."""

    exit_code = 5


class SettingsError(CrosstrainError):
    """A setting or an argument is unknown, out of range or would have no effect."""

    exit_code = 2


class DataRefusedError(CrosstrainError):
    """A dataset cannot be used as it is: unreadable, too small, leaking, or failing validation."""

    exit_code = 3


class NothingToDoError(CrosstrainError):
    """The request is valid but there is nothing to act on, for example no champion to show."""

    exit_code = 4


class ModelFileError(CrosstrainError):
    """A stored model or checkpoint is missing, damaged or of another version."""


class ChampionChangedError(CrosstrainError):
    """Another version became champion after a challenger was judged."""


class ExportRefusedError(CrosstrainError):
    """The checks did not show that an exported model is as good as the original model."""
