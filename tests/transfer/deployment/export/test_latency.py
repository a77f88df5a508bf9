"""Latencies are medians of what each call took, for batches of 1 and 128."""

import os
import time

import numpy as np
import torch

from transfer.deployment.export import latency


def test_every_engine_is_timed_on_both_batches_and_all_thread_counts():
    asked = []

    def engine(threads):
        def answer(pictures):
            asked.append((threads, len(pictures)))
            time.sleep(0.002 if len(pictures) == 1 else 0.02)
            return np.zeros((len(pictures), 2), np.float32)

        return answer

    found = latency.measure({"slow": engine}, np.zeros((3, 1, 4, 4), np.uint8))["slow"]
    counts = latency.thread_counts()
    assert counts[0] == 1 and counts[-1] == os.cpu_count()
    assert [(one.threads, one.batch) for one in found] == [(t, b) for t in counts for b in (1, 128)]
    assert set(asked) == {(one.threads, one.batch) for one in found}
    for one in found:
        assert 1 <= one.milliseconds / (2 if one.batch == 1 else 20) < 3


def test_torch_gets_its_threads_back():
    before = torch.get_num_threads()
    with latency.torch_threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before
