"""What all tests share: one numeric thread, no time limit for Hypothesis examples, and the servers
of a team (PostgreSQL, S3) for the tests that request them."""

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
    """Small tensors are slower on many threads, and parallel tests would compete for the cores."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def import_path_of_processes():
    """`tasks.runtime.environment.prepare` keeps later processes from importing from their folder;
    the next module starts some that have to."""
    before = os.environ.get("PYTHONSAFEPATH")
    yield
    os.environ.pop("PYTHONSAFEPATH", None)
    if before is not None:
        os.environ["PYTHONSAFEPATH"] = before


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgresql.Server]:
    """A PostgreSQL server. Without its programs, tests skip, or fail if DEMAND_POSTGRES is set."""
    if postgresql.programs() is None:
        reason = "PostgreSQL's initdb is not on this machine: a team's database is NOT TESTED here"
        (pytest.fail if os.environ.get("DEMAND_POSTGRES") else pytest.skip)(reason)
    with postgresql.serve() as server:
        yield server


@pytest.fixture(scope="session")
def objects() -> Iterator[dict[str, str]]:
    """A local S3 server, as the environment variables of its clients."""
    with s3.serve() as environment:
        yield environment
