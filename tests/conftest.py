"""What every test shares: one numeric thread, and no limit on the time of a drawn example."""

import hypothesis
import pytest

hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors are slower on many threads, and tests of several processes would fight."""
    import torch

    torch.set_num_threads(1)
