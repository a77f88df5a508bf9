"""The command line: help, speed, and messages outside a project."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAVY = ("torch", "prefect", "mlflow", "great_expectations", "dvc", "matplotlib", "sklearn")
CROSSTRAIN = Path(sys.executable).with_name("crosstrain")
COMMANDS = (
    "init",
    "settings",
    "deployments",
    "demo",
    "retrain",
    "predict",
    "champion",
    "history",
    "promote",
    "rollback",
    "bless",
    "score",
    "export",
    "monitor",
    "ingest",
    "report",
    "ui",
    "serve",
    "data",
)


def crosstrain(folder: Path, *words: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [CROSSTRAIN, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_help_lists_every_command_and_the_exit_codes(tmp_path: Path) -> None:
    shown = crosstrain(tmp_path, "--help").stdout
    from flows.cli.main import app

    registered = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback]
    registered += [group.name or "" for group in app.registered_groups]
    assert set(registered) >= set(COMMANDS)
    for name in registered:
        assert re.search(rf"│ {name} +\w", shown), name
    assert "Exit codes: 0 done" in " ".join(shown.split())
    assert "130 interrupted" in " ".join(shown.replace("│", "").split())


@pytest.mark.parametrize("name", COMMANDS[:-1])
def test_help_of_a_command_has_an_example(tmp_path: Path, name: str) -> None:
    shown = " ".join(crosstrain(tmp_path, name, "--help").stdout.split())
    assert f"Example: crosstrain {name}" in shown


def modules(folder: Path, *words: str) -> set[str]:
    """Modules that a command has imported at its end."""
    code = (
        f"import sys; sys.argv = ['crosstrain', *{words}]\n"
        "from flows.cli.main import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    print('\\nmodules', *sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("\nmodules")[2].split())


def test_a_registry_query_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").touch()
    loaded = modules(tmp_path, "history", "--target", "plants")
    assert "tasks.registry.versions" in loaded
    assert not loaded & set(HEAVY)


def test_help_imports_nothing_heavy_and_is_quick(tmp_path: Path) -> None:
    loaded = modules(tmp_path, "--help")
    assert "typer" in loaded
    assert not loaded & set(HEAVY)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        crosstrain(tmp_path, "--help")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.5


@pytest.mark.parametrize("words", [["report"], ["champion"], ["retrain"], ["data", "verify"]])
def test_outside_a_project_a_command_reports_it(tmp_path: Path, words: list[str]) -> None:
    message = crosstrain(tmp_path, *words, code=2).stderr
    assert message.startswith("crosstrain: neither ")
    assert "run inside a crosstrain project" in message


@pytest.mark.parametrize("command", ["retrain", "demo"])
def test_an_invalid_budget_is_refused_before_anything_starts(tmp_path: Path, command: str) -> None:
    (tmp_path / "params.yaml").write_text("{}")
    message = crosstrain(tmp_path, command, "--budget", "5 min", code=2).stderr
    assert message == (
        "crosstrain: --budget: found the duration '5 min'; "
        "expected one such as 90s, 5m, 2h or 1h30m\n"
    )
    assert not (tmp_path / ".prefect").exists()


def test_a_command_works_in_a_subfolder_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("{}")
    (tmp_path / "data/deep").mkdir(parents=True)
    message = crosstrain(tmp_path / "data/deep", "report", code=4).stderr
    assert "run `crosstrain retrain` first" in message


def test_an_unknown_command_is_a_usage_error(tmp_path: Path) -> None:
    assert "No such command 'retrian'" in crosstrain(tmp_path, "retrian", code=2).stderr


def test_an_internal_error_shows_its_traceback_and_counts_as_a_failed_step(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("{}")
    (tmp_path / "reports/retrain.json").mkdir(parents=True)
    done = subprocess.run(
        [CROSSTRAIN, "report"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 5
    assert "Traceback" in done.stderr


def test_a_result_of_another_version_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("{}")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/retrain.json").write_text('{"verdict": "good"}')
    done = subprocess.run(
        [CROSSTRAIN, "report"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "is not a result of this version" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_project_is_made_and_used_from_any_folder_of_it(tmp_path: Path) -> None:
    made = crosstrain(tmp_path, "init", "plants", "--no-git").stdout
    assert f"{tmp_path}/plants/params.yaml" in made
    (tmp_path / "plants/data/target").mkdir(parents=True)
    message = crosstrain(tmp_path / "plants/data/target", "champion", code=4).stderr
    assert "crosstrain-target" in message  # the target that params.yaml names
    again = crosstrain(tmp_path, "init", "plants", code=2).stderr
    assert "is already a project" in again


def test_settings_are_listed_with_default_range_and_meaning(tmp_path: Path) -> None:
    shown = crosstrain(tmp_path, "settings", "adapt.training").stdout
    assert "adapt.training.steps = 200\n" in shown
    assert "[whole number ≥ 1]" in " ".join(shown.split())
    rows = json.loads(crosstrain(tmp_path, "settings", "split", "--json").stdout)
    assert [row["name"] for row in rows] == ["split.seed", "split.val", "split.test"]
    assert {row["default"] for row in rows} == {"0", "0.1", "0.2"}


@pytest.mark.parametrize(
    ("prefix", "near"),
    [("adapt.traning", "adapt.training"), ("bugdet", "run.budget"), ("zzz", "lists them all")],
)
def test_a_prefix_that_is_unknown_is_refused_with_similar_names(
    tmp_path: Path, prefix: str, near: str
) -> None:
    message = crosstrain(tmp_path, "settings", prefix, code=2).stderr
    assert f"there is no setting {prefix!r}; " in message
    assert near in message


def test_a_settings_file_is_found_where_the_command_is_typed(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("{}")
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials/wide.yaml").write_text("target: {path: data/wide}")
    shown = crosstrain(tmp_path / "trials", "deployments", "--params", "wide.yaml").stdout
    assert "target: data/wide" in shown
