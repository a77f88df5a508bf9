"""params.yaml in, typed settings out; a mistake is named with what would be right."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from tasks.versioning import demo_data
from transfer.core.errors import SettingsError
from transfer.methods.lookup import known
from transfer.settings import project
from transfer.settings.project import Settings

PARAMS = Path(__file__).parents[3] / "params.yaml"
DEMO = {
    "source.path": "data/mnist",
    "target.path": "data/digits",
    "target.labels_per_class": 10,
    "split.test": 0.7,
    "backbone.width": 12,
    "augment.mixup": 0.2,
    "adapt.training.steps": 100,
}
"""Where the settings of the demo differ from the defaults in the code."""


def flat(tree, path=""):
    leaves = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            leaves |= flat(value, f"{path}{key}.")
        else:
            leaves[f"{path}{key}"] = value
    return leaves


def plain(found):
    return found.model_dump(mode="json", by_alias=True)


def refused(*overrides):
    with pytest.raises(SettingsError) as error:
        project.load(PARAMS, overrides)
    return str(error.value)


# the file of the repository


def test_the_demo_has_settings_of_its_own_which_are_no_defaults():
    told, default = flat(plain(project.load(demo_data.PARAMS))), flat(plain(Settings()))
    assert {key: told[key] for key in told if told[key] != default[key]} == DEMO


def test_every_key_of_the_file_exists_and_its_datasets_inherit_nothing_of_the_demo():
    assert yaml.safe_load(PARAMS.read_text()).keys() <= plain(project.load(PARAMS)).keys()
    found = project.load(PARAMS, ["source.path=data/source", "target.path=data/target"])
    assert found == Settings()


def sections(model, path=""):
    """Every group of settings and where it stands; rules of promotion are a list of groups."""
    yield path, model
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from sections(field.annotation, f"{path}.{name}")


def test_every_setting_is_described_and_every_group_frozen():
    for path, model in sections(Settings):
        assert model.__doc__, path
        assert model.model_config["frozen"] and model.model_config["extra"] == "forbid", path
        for name, field in model.model_fields.items():
            leaf = not (
                isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
            )
            if leaf:
                assert field.description, f"{path}.{name} lacks a docstring"


def test_an_empty_file_gives_the_defaults(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing here\n")
    assert project.load(tmp_path / "empty.yaml") == Settings()


def test_settings_survive_a_round_trip():
    found = project.load(PARAMS)
    assert project.check(plain(found), "a test") == found


# overrides


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("adapt.seeds=[0,1]", lambda s: s.adapt.seeds == (0, 1)),
        ("adapt.training.steps=7", lambda s: s.adapt.training.steps == 7),
        ("source.path=data/my animals", lambda s: s.source.path == Path("data/my animals")),
        ("pretrain.learning_rate=1e-3", lambda s: s.pretrain.learning_rate == 0.001),
        ("target.labels_per_class=null", lambda s: s.target.labels_per_class is None),
        ("target.labels_per_class=", lambda s: s.target.labels_per_class is None),
        ("augment.flip_horizontal=true", lambda s: s.augment.flip_horizontal is True),
        (" input.channels = 3", lambda s: s.input.channels == 3),
        ("target.name=a b", lambda s: s.target.name == "a b"),
        ("target.path=data/plants.v2", lambda s: s.target.label == "plants.v2"),
        ("target.path=data/plants.v2.npz", lambda s: s.target.label == "plants.v2"),
        ("validate.min_items=3", lambda s: s.validate_.min_items == 3),
        ("promote.rules=[]", lambda s: len(s.promote.rules) == 0),
        ("methods.l2_sp.alpha=0.5", lambda s: s.methods.l2_sp.alpha == 0.5),
        ("adapt.methods=[fine_tune]", lambda s: s.adapt.methods == ("fine_tune",)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_override_replaces_one_value(override, read):
    found = project.load(PARAMS, [override])
    assert read(found)
    base, told = flat(plain(project.load(PARAMS))), flat(plain(found))
    key = override.split("=")[0].strip()
    assert {k for k in base if base[k] != told.get(k)} <= {key, "promote.rules"}


def test_the_last_override_wins():
    assert project.load(PARAMS, ["run.workers=1", "run.workers=2"]).run.workers == 2


def test_an_override_may_stand_where_the_file_has_no_section(tmp_path):
    (tmp_path / "few.yaml").write_text("input: {size: 16}\n")
    found = project.load(tmp_path / "few.yaml", ["adapt.training.steps=3"])
    assert (found.input.size, found.adapt.training.steps) == (16, 3)


@pytest.mark.parametrize("override", ["adapt.seeds", "=3", " = 3", ""])
def test_an_override_needs_a_name_and_an_equals_sign(override):
    assert f"--set {override!r}: expected section.field=value" in refused(override)


@pytest.mark.parametrize("name", ["plants (1)", "bob's", "a/b", "a:b", "x=y"])
def test_a_name_that_a_registry_cannot_take_is_refused(name):
    assert f"the dataset's name is {name!r}" in refused(f'target.name="{name}"')
    assert "set another with `name`" in refused("target.path=..//")


def test_two_datasets_of_one_name_are_refused():
    message = refused("source.path=animals/manifest.csv", "target.path=plants/manifest.csv")
    assert "both named 'manifest'; set source.name or target.name" in message
    told = ["source.path=a/manifest.csv", "target.path=b/manifest.csv", "source.name=a"]
    assert project.load(PARAMS, told).source.label == "a"


# several sources


def test_further_sources_follow_the_main_one_with_the_same_split_by_default():
    told = "more_sources=[{path: data/oaks.npz}, {path: data/elms, name: big, split: {val: 0.2}}]"
    found = project.load(PARAMS, [told])
    assert [one.label for one in found.sources] == ["mnist", "oaks", "big"]
    assert [one.split.val for one in found.sources] == [0.1, 0.1, 0.2]
    assert project.load(PARAMS).sources == (found.source,)


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["more_sources=[{name: oaks}]"], "more_sources.0.path"),
        (["more_sources=[{path: data/oaks, pth: x}]"], "more_sources.0.pth: there is no such"),
        (["more_sources=[{path: other/mnist}]"], "two sources are named 'mnist'"),
        (["more_sources=[{path: a/oaks}, {path: b/oaks}]"], "two sources are named 'oaks'"),
        (["more_sources=[{path: other/digits}]"], "both named 'digits'"),
        (["pretrained=[mobilenet_v2, mobilenet_v2]"], "two sources are named 'mobilenet_v2'"),
        (["pretrained=[mobilenet_v2]", "source.name=mobilenet_v2"], "two sources are named"),
        (["pretrained=[mobilenet_v2]", "target.name=mobilenet_v2"], "both named 'mobilenet_v2'"),
        (["pretrained=[vgg]"], "efficientnet_lite0"),
        (["pretrained=[resnet]"], "efficientnet_lite0"),
        (["adapt.finalists=0"], "greater than or equal to 1"),
        (["adapt.best_sources=0"], "greater than or equal to 1"),
    ],
    ids=lambda value: "" if isinstance(value, str) else value[-1],
)
def test_sources_that_cannot_be_distinguished_or_are_missing_are_refused(overrides, part):
    assert part in refused(*overrides)


def test_the_backbone_of_all_datasets_together_has_a_name_that_no_other_source_has():
    told = ["more_sources=[{path: data/oaks}, {path: data/elms, name: mnist and oaks and elms}]"]
    project.load(PARAMS, told)
    told = ["more_sources=[{path: data/oaks}]", "pretrain.jointly=true"]
    project.load(PARAMS, told)
    assert "both named 'mnist and oaks'" in refused(*told, "target.name=mnist and oaks")


def test_an_override_inside_a_value_is_refused():
    message = refused("adapt.training.steps.more=3")
    assert "'steps' is a value, not a section" in message


def test_an_override_that_is_no_yaml_is_refused():
    assert "the value is not YAML" in refused("adapt.seeds=[0,")


# mistakes


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        (
            "adapt.training.step=3",
            "adapt.training.step: there is no such setting; did you mean 'steps'?",
        ),
        ("adapt.trianing.steps=3", "did you mean 'training'?"),
        ("agument.rotate=3", "did you mean 'augment'?"),
        ("validation.min_items=3", "did you mean 'validate'?"),
        ("validate.min_item=3", "did you mean 'min_items'?"),
        ("methods.l2sp.alpha=3", "did you mean 'l2_sp'?"),
        ("methods.l2_sp.alphas=3", "did you mean 'alpha'?"),
        ("backbone.zzz=3", "known here: name, width, pool"),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(override, hint):
    assert hint in refused(override)


def test_an_unknown_key_in_a_rule_is_refused_without_an_empty_list():
    message = refused("promote.rules=[{rule: class_recall, margn: 0.1}]")
    assert message.endswith("margn: there is no such setting")


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("input.size=big", ["input.size = 'big'", "valid integer"]),
        ("input.size=4", ["input.size = 4", "greater than or equal to 8"]),
        ("input.channels=2", ["input.channels = 2", "'auto', 1 or 3"]),
        ("split.test=0.95", ["val + test is 1.05", "less than 1"]),
        ("adapt.methods=[scrach]", ["no 'scrach'", ", ".join(known())]),
        ("adapt.methods=[scratch]", ["at least one method that uses the source"]),
        ("adapt.seeds=[]", ["one seed or more"]),
        ("backbone.name=vgg", ["backbone.name = 'vgg'", "resnet"]),
        ("run.budget=5min", ["run.budget = '5min'", "expected one such as 90s, 5m, 2h or 1h30m"]),
        ("run.budget=300", ["run.budget = 300", "valid string"]),
        ("run.device=tpu", ["run.device = 'tpu'", "'cuda'"]),
        ("augment=none", ["augment = 'none'"]),
        ("promote.rules=[{rule: nope}]", ["'nope'", "loads_back"]),
        ("methods.fine_tune.decay=0", ["methods.fine_tune.decay = 0", "greater than 0"]),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected(override, parts):
    message = refused(override)
    assert message.startswith("settings in ") and "params.yaml are not valid" in message
    for part in parts:
        assert part in message


def test_all_mistakes_are_reported_at_once():
    message = refused("input.size=4", "adapt.training.step=3", "run.workers=-1")
    assert len(message.splitlines()) == 4


def test_a_file_that_is_not_there_is_a_named_error(tmp_path):
    with pytest.raises(SettingsError, match=r"there is no .*gone\.yaml; run from the project"):
        project.load(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "is not YAML"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"- 1\n- 2\n", "holds a list; expected sections"),
        (b"just words", "holds a str; expected sections"),
    ],
)
def test_a_file_that_is_no_mapping_is_a_named_error(tmp_path, content, message):
    (tmp_path / "odd.yaml").write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        project.load(tmp_path / "odd.yaml")


def test_a_folder_is_a_named_error(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        project.load(tmp_path)


# the digest


def test_the_digest_reads_all_that_decides_results_and_nothing_else():
    base = project.load(PARAMS).digest()
    assert len(base) == 64
    for override in ("run.workers=3", "run.budget=5m", "run.device=cpu", "promote.rules=[]"):
        assert project.load(PARAMS, [override]).digest() == base, override
    others = [
        "source.path=data/other", "target.labels_per_class=9", "input.size=29",
        "validate.min_items=11", "split.seed=1", "augment.rotate=11", "backbone.width=17",
        "pretrain.seed=1", "adapt.seeds=[0,1]", "methods.l2_sp.alpha=0.2", "evaluate.level=0.9",
    ]  # fmt: skip
    digests = {project.load(PARAMS, [override]).digest() for override in others}
    assert len(digests | {base}) == len(others) + 1


def test_a_budget_is_a_time_or_none():
    assert project.load(PARAMS).run.budget_seconds is None
    assert project.load(PARAMS, ["run.budget=1h30m"]).run.budget_seconds == 5400
    shape = project.RunSettings.model_json_schema()["properties"]["budget"]
    assert re.search(shape["pattern"], "90s") and not re.search(shape["pattern"], "90")


def test_a_dataset_is_named_by_its_file_by_default():
    found = project.load(PARAMS, ["source.path=data/animals.npz"])
    assert found.source.label == "animals"
    assert project.load(PARAMS, ["source.name=fauna"]).source.label == "fauna"


def test_a_cluster_of_threads_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"threads do not use a cluster; set run\.task_runner"):
        project.check({"run": {"cluster": "tcp://host:8786"}}, "params.yaml")
    told = {"cluster": "tcp://host:8786", "task_runner": "dask"}
    assert project.check({"run": told}, "params.yaml").digest() == Settings().digest()
