"""The report says everything, escapes what users wrote and loads nothing from anywhere."""

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from tasks import canvas, pictures, report, wording
from transfer.result import Result

METHODS = ("scratch", "linear_probe", "fine_tune", "l2_sp")


def made_up(classes=10, names=None, **changes):
    """A plausible result: 4 methods x 3 seeds; no figure of it was measured."""
    draw = np.random.default_rng(7)
    names = names or [str(k) for k in range(classes)]
    n = 899
    base = {"scratch": 0.905, "linear_probe": 0.879, "fine_tune": 0.946, "l2_sp": 0.951}
    weights = {"fine_tune": 1 / 6, "l2_sp": 1 / 6}
    arms = []
    for method in METHODS:
        for seed in range(3):
            validation, test = base[method] + draw.normal(0, 0.006, 2)
            arms.append(
                {
                    "method": method,
                    "seed": seed,
                    "uses_source": method != "scratch",
                    "validation": validation,
                    "validation_low": validation - 0.024,
                    "validation_high": validation + 0.019,
                    "test": test,
                    "test_low": test - 0.016,
                    "test_high": test + 0.013,
                    "steps": 400,
                    "seconds": 3.1 if method == "linear_probe" else 24.0 + seed,
                    "temperature": 1.1 + 0.05 * seed,
                    "weight": weights.get(method, 0.0),
                }
            )
    truth = draw.integers(0, len(names), n)
    wrong = draw.random(n) < 0.045
    guess = np.where(wrong, (truth + draw.integers(1, 4, n)) % len(names), truth)
    confusion = np.zeros((len(names), len(names)), int)
    np.add.at(confusion, (truth, guess), 1)
    recall = confusion.diagonal() / np.maximum(confusion.sum(1), 1)
    precision = confusion.diagonal() / np.maximum(confusion.sum(0), 1)
    confidence = np.sort(1 - draw.exponential(0.05, 15)).clip(0.3, 0.999)
    gain = {"metric": "accuracy", "point": 0.0434, "low": 0.0267, "high": 0.0601}
    members = [f"{m}/{s}" for m in ("fine_tune", "l2_sp") for s in range(3)]
    dataset = {"rejects": 0, "classes": names, "excluded": 0}
    values = {
        "target": "digits",
        "metric": "accuracy",
        "level": 0.95,
        "seeds": [0, 1, 2],
        "test_items": n,
        "labels_per_class": 20,
        "verdict": "positive",
        "sentence": "Transfer from mnist raised test accuracy by 4.3 points "
        "(95% interval 2.7 to 6.0; 899 items, 3 seeds).",
        "gain": gain,
        "sources": [{"name": "mnist", "gain": gain, "verdict": "positive", "members": members}],
        "scratch": {"accuracy": 0.9177, "low": 0.898, "high": 0.934, "single_mean": 0.9062},
        "chosen": {
            "scheme": "uniform",
            "members": members,
            "weights": [1 / 6] * 6,
            "accuracy": 0.9611,
            "low": 0.9464,
            "high": 0.9718,
            "balanced_accuracy": 0.9607,
            "macro_precision": 0.9613,
            "macro_recall": 0.9607,
            "macro_f1": 0.9608,
            "log_loss": 0.1423,
            "brier": 0.0612,
            "ece": 0.0124,
        },
        "arms": arms,
        "classes": [
            {"name": name, "items": int(i), "precision": p, "recall": r, "f1": (p + r) / 2}
            for name, i, p, r in zip(names, confusion.sum(1), precision, recall, strict=True)
        ],
        "confusion": confusion.tolist(),
        "reliability": [
            {"confidence": c, "accuracy": min(1.0, max(0.0, c + draw.normal(0, 0.02))), "items": 60}
            for c in confidence
        ],
        "schemes": {"best single": 0.1893, "uniform": 0.1511, "stacked": 0.1527, "all": 0.1788},
        "promoted": True,
        "reasons": ["Every rule held.", "There was no champion before."],
        "rules": [
            {
                "rule": "not worse than training from scratch",
                "held": True,
                "found": "gain +4.3 points, interval +2.7 to +6.0",
                "expected": "low end at least 0.0",
            },
            {
                "rule": "expected calibration error",
                "held": True,
                "found": "0.012",
                "expected": "at most 0.050",
            },
        ],
        "model": "crosstrain-digits",
        "version": 7,
        "mlflow_run": "9b2f4c1d8e7a4f00a1b2c3d4e5f60718",
        "data": {
            "source": dataset
            | {
                "name": "mnist",
                "path": "data/mnist",
                "md5": "3f9c0f6a1d2b4c5e8f7a6b5c4d3e2f1a.dir",
                "items": 5000,
                "train": 4481,
                "labelled": 4481,
                "val": 519,
                "test": 0,
            },
            "target": dataset
            | {
                "name": "digits",
                "path": "data/digits",
                "md5": "a1b2c3d4e5f60718293a4b5c6d7e8f90.dir",
                "items": 1797,
                "train": 898,
                "labelled": 200,
                "val": 0,
                "test": n,
            },
        },
        "seconds": {
            "total": 92.41,
            "steps": {
                "scan": 0.031,
                "validate": 0.412,
                "split": 0.024,
                "pretrain": 31.8,
                "adapt": 54.2,
                "evaluate": 3.92,
                "promote": 2.02,
            },
            "reused": ["scan", "split"],
        },
        "settings_digest": "c0ffee" * 10 + "c0ff",
        "code_revision": "1f3d5b7 (clean)",
    }
    return Result.model_validate(values | changes)


def curves():
    """Loss curves of a pretraining and of every arm."""
    steps = np.arange(8, 401, 8)
    draw = np.random.default_rng(3)
    runs = [("pretrain", 0.52, 120.0)]
    runs += [(f"{m}/{s}", 0.6 + 0.1 * i, 60.0) for i, m in enumerate(METHODS) for s in range(3)]
    return [
        {
            "name": name,
            "step": steps.tolist(),
            "loss": (floor + 1.8 * np.exp(-steps / speed) + draw.normal(0, 0.015, 50)).tolist(),
            "validation_step": steps[::5].tolist() if name == "pretrain" else [],
            "validation": (floor - 0.2 + 1.5 * np.exp(-steps[::5] / speed)).tolist()
            if name == "pretrain"
            else [],
        }
        for name, floor, speed in runs
    ]
