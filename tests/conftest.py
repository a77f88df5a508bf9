"""What every test shares: one numeric thread, and no limit on the time of a drawn example; and the
servers that a team has, for the tests that ask for them."""

import os
from collections.abc import Iterator

import hypothesis
import pytest

from tests import postgres as postgresql
from tests import s3

hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors are slower on many threads, and tests of several processes would fight."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgresql.Server]:
    """A PostgreSQL server; only where its programs are absent, and not demanded, tests skip it."""
    if postgresql.programs() is None:
        told = "PostgreSQL's initdb is not on this machine: a team's database is NOT TESTED here"
        (pytest.fail if os.environ.get("DEMAND_POSTGRES") else pytest.skip)(told)
    with postgresql.serve() as server:
        yield server


@pytest.fixture(scope="session")
def objects() -> Iterator[dict[str, str]]:
    """A local S3 server, as the environment in which its clients work."""
    with s3.serve() as environment:
        yield environment
