"""The report is complete, escapes text of users and loads no external resource."""

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tasks.reports import plot_style, report, report_plots
from tasks.runtime import formatting
from transfer.evaluation.report_schema import Result

CURVES = [
    {
        "name": "l2_sp/0",
        "step": [10, 20],
        "loss": [1.5, 0.25],
        "validation_step": [],
        "validation": [],
    }
]
NASTY = "<script>alert('\"&')</script>"
DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def retrain_json():
    path = Path(__file__).with_name("retrain.json")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def result(retrain_json):
    return Result.model_validate(retrain_json)


@pytest.fixture(scope="module")
def drawn(result):
    svgs = {name: plot_style.svg(f) for name, f in report_plots.of_result(result, CURVES).items()}
    return {
        **svgs,
        "source_samples_1": DOT,
        "source_samples_2": DOT,
        "target_samples": DOT,
        "augmentation": DOT,
    }


class Page(HTMLParser):
    """Tags with their attributes, and the visible text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.visible, self._inside = [], [], []
        self.feed(page)
        self.text = " ".join(" ".join(self.visible).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("style", "title"):
            self._inside.append(tag)

    def handle_endtag(self, tag):
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data):
        if not self._inside:
            self.visible.append(data)


def test_nothing_is_loaded_from_anywhere(result, drawn):
    page = report.render(result, drawn, links={"validation": "validation/index.html"})
    tags = Page(page).tags
    loads = [
        (tag, name, value)
        for tag, attributes in tags
        for name, value in attributes.items()
        if name in ("src", "srcset", "href", "xlink:href", "data", "poster", "action", "background")
    ]
    assert sum(tag == "image" for tag, *_ in loads) >= 1  # the confusion matrix
    assert sum(tag == "img" for tag, *_ in loads) == 4  # two sources, target, augmentation
    for tag, _, value in loads:
        if tag == "a":
            assert value.startswith("#") or value == "validation/index.html"
        else:
            assert value.startswith(("data:", "#")), (tag, value)
    assert not {"script", "iframe", "object", "embed", "base"} & {tag for tag, _ in tags}
    assert all(u.startswith("#") for u in re.findall(r"url\(\s*['\"]?([^)]*)", page))
    assert "@import" not in page
    policy = next(a["content"] for t, a in tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_the_report_is_complete_and_in_order(result, drawn):
    text = Page(report.render(result, drawn, links={"validation": "v.html"})).text
    places = [
        "Positive transfer",
        result.sentence,
        "crosstrain-digits version 7 is the champion.",
        "Every rule passed.",
        "gain +4.3 points, interval +2.7 to +6.0",
        "96.1% 94.6–97.2% · stacked of 6 arms",
        "91.8% 89.8–93.4%",
        "+4.3 points +2.7 to +6.0",
        "899 items 3 seeds: 0, 1, 2",
        "linear_probe 2 88.2% 85.8–90.1 88.1% 86.5–89.4 400 45 318 3.1 s 1.20",
        "Blue diamonds are members",
        "Blue is right, orange is wrong",
        "4 3 90 96.6% 94.4% 95.5%",
        "stacked 0.1511 chosen uniform 0.1527",
        "l2_sp/0 0.250",
        result.data.sources[0].md5,
        "Rejected 0 0",
        result.mlflow_run,
        result.settings_digest,
        result.code_revision,
        "92.4 s in total",
        "scan 31 ms reused validate 412 ms",
        "See also: validation",
    ]
    position = -1
    for place in places:
        assert place in text
        assert text.index(place, max(position, 0)) >= position
        position = text.index(place, max(position, 0))
    for arm in result.arms:
        assert f"{arm.method} {arm.seed} {100 * arm.validation:.1f}%" in text


def of_two_sources(retrain_json):
    """The result of a run of two sources, of which one is left out, and one method was stopped."""
    mnist, (other,) = retrain_json["sources"][0], retrain_json["data"]["sources"]
    gain = {"metric": "accuracy", "point": -0.051, "low": -0.07, "high": -0.03}
    adds = {"metric": "accuracy", "point": 0.012, "low": 0.001, "high": 0.02}
    noise = {"name": "noise", "verdict": "negative", "members": ["l2_sp/noise/0"], "gain": gain}
    arms = [
        {**arm, "group": f"{arm['method']}/{'noise' if arm['seed'] else 'mnist'}"}
        for arm in retrain_json["arms"]
    ]
    arms[-1]["finalist"] = False
    changes = {
        "sources": [{**mnist, "adds": adds}, {**noise, "adds": None}],
        "arms": arms,
        "left_out": ["noise"],
        "data": {
            **retrain_json["data"],
            "sources": [other, {**other, "name": "noise", "md5": "n" * 32}],
        },
    }
    return Result.model_validate({**retrain_json, **changes})


def test_every_source_is_shown_with_its_gain_and_its_contribution(retrain_json):
    result = of_two_sources(retrain_json)
    text = Page(report.render(result, {})).text
    adds = r"\+1\.2 \+0\.1 to \+2\.0"
    assert re.search(rf"mnist \+4\.3 \+2\.7 to \+6\.0 fine_tune/0, .* {adds} positive", text)
    assert re.search(r"noise −5\.1 −7\.0 to −3\.0 l2_sp/noise/0 – negative", text)
    assert "Excluded from the model, because the test split shows that it hurts: noise." in text
    assert "would have reported 96.3% (l2_sp): a difference of +0.2 points" in text
    for record in result.data.sources:
        assert record.md5 in text
    for arm in result.arms[:-1]:
        assert f"{arm.group} {arm.seed} {100 * arm.validation:.1f}%" in text
    assert f"{result.arms[-1].group} stopped {result.arms[-1].seed} " in text
    assert "Methods marked “stopped” were not trained after their first seed." in text


def test_predictions_of_the_advisor_are_shown_with_their_rank_correlation(retrain_json):
    (first,) = retrain_json["foresight"]["advice"]
    other = {**first, "name": NASTY, "rank": 2, "leep": None, "a_distance": None, "knn": 0.5}
    methods = {"spearman": 0.8, "kendall": 0.6, "n": 4}
    unknown = {"spearman": None, "kendall": None, "n": 2}
    foresight = {"advice": [first, other], "sources": unknown, "methods": methods}
    page = Page(report.render(Result.model_validate({**retrain_json, "foresight": foresight}), {}))
    assert f"{first['name']} 1 {first['logme']:.2f} {first['h_score']:.2f}" in page.text
    assert re.search(rf"{re.escape(NASTY)} 2 \S+ \S+ – \S+ 50\.0% – ", page.text)
    assert "test accuracy: Spearman's rank correlation 0.80, 4 pairs." in page.text
    assert "order of the sources" not in page.text
    silent = {**foresight, "advice": [], "methods": unknown}
    page = Page(report.render(Result.model_validate({**retrain_json, "foresight": silent}), {}))
    assert "Predictions before training" not in page.text and "Spearman" not in page.text


def test_arms_are_named_by_their_source_wherever_they_are_listed(retrain_json):
    result = of_two_sources(retrain_json)
    stopped = result.arms[-1]
    rows = list(csv.DictReader(io.StringIO(report.plots(result, [0], [0], [])["arms.csv"])))
    assert [row["arm"] for row in rows] == [f"{arm.group}/{arm.seed}" for arm in result.arms]
    assert "| scratch/mnist | 0 |" in report.markdown(result)
    text = printed(result, width=100)
    assert re.search(rf"{stopped.group} \(stopped\) +\| +{stopped.seed} ", text)


def test_notes_of_methods_are_shown_once_per_method_and_escaped(retrain_json):
    arms = [dict(arm) for arm in retrain_json["arms"]]
    arms[3]["notes"] = [{"share": 0.123456, NASTY: NASTY}, {"share": 0.9}]
    page = Page(report.render(Result.model_validate({**retrain_json, "arms": arms}), {}))
    assert f"linear_probe: share 0.1235; {NASTY} {NASTY}" in page.text
    assert page.text.count("linear_probe: ") == 1 and "fine_tune: " not in page.text
    assert "script" not in {tag for tag, _ in page.tags}


def test_an_exceeded_budget_is_shown_on_the_page_in_markdown_and_in_the_terminal(retrain_json):
    left_out = {"l2_sp/1": "no time", NASTY: "no time", "l2_sp/2": "no time for this seed"}
    budget = {"seconds": 90, "spent": 88.5, "share": 0.25, "left_out": left_out}
    result = Result.model_validate({**retrain_json, "budget": budget, "seeds": [0]})
    page = Page(report.render(result, {}))
    assert "Time ran out: the budget of 90.0 s was too short for everything." in page.text
    assert "Every training, also from scratch, had 25.0% of the steps" in page.text
    assert "The result is from one seed" in page.text
    assert f"Left out, no time: 2 (l2_sp/1, {NASTY})." in page.text
    assert "script" not in {tag for tag, _ in page.tags}
    assert "Left out, no time for this seed: 1 (l2\\_sp/2)." in report.markdown(result)
    assert "Time ran out" in printed(result, width=100)


def test_only_the_effects_of_a_budget_are_shown(retrain_json, result):
    budget = {"seconds": 3600, "spent": 60.0, "share": 1.0, "left_out": {}}
    kept = Page(report.render(Result.model_validate({**retrain_json, "budget": budget}), {})).text
    assert "Everything was trained within the budget of 60 min 00 s." in kept
    for text in (kept, Page(report.render(result, {})).text):
        assert "Time ran out" not in text
    assert "budget of" not in Page(report.render(result, {})).text


def test_no_note_on_stopped_or_excluded_arms_without_any(result):
    text = Page(report.render(result, {})).text
    for words in ("Left out", "Excluded from", "stopped", "Excluded: "):
        assert words not in text


def test_text_of_users_is_escaped(retrain_json, drawn):
    nasty_data = {"name": NASTY, "path": NASTY, "classes": [NASTY]}
    changes = {
        "target": NASTY,
        "sentence": f"Transfer to {NASTY}",
        "reasons": [NASTY],
        "model": NASTY,
        "code_revision": NASTY,
        "rules": [{"rule": NASTY, "passed": False, "found": NASTY, "expected": NASTY}],
        "classes": [{**c, "name": f"{NASTY} {i}"} for i, c in enumerate(retrain_json["classes"])],
        "sources": [{**retrain_json["sources"][0], "name": NASTY}],
        "schemes": {NASTY: 0.1},
        "left_out": [NASTY],
        "oracle": {**retrain_json["oracle"], "group": NASTY},
        "collapsed": {NASTY: NASTY},
        "arms": [{**arm, "group": f"l2_sp/{NASTY}"} for arm in retrain_json["arms"]],
        "data": {
            "sources": [{**retrain_json["data"]["sources"][0], **nasty_data}] * 2,
            "target": {**retrain_json["data"]["target"], **nasty_data},
        },
    }
    nasty = Result.model_validate(retrain_json | changes)
    page = report.render(nasty, drawn, links={NASTY: "v.html"})
    parsed = Page(page)
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert "<script" not in page.lower()
    assert parsed.text.count(NASTY) >= 29 + len(retrain_json["classes"]) + len(retrain_json["arms"])


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("positive", "Positive transfer"),
        ("none", "No measurable transfer"),
        ("negative", "Negative transfer"),
    ],
)
def test_the_badge_is_the_verdict(retrain_json, verdict, words):
    page = Page(report.render(Result.model_validate(retrain_json | {"verdict": verdict}), {}))
    badge = next(a for t, a in page.tags if t == "span" and "badge" in a.get("class", ""))
    assert badge["class"] == f"badge {verdict}"
    assert words in page.text


def test_a_rejected_model_is_shown_as_rejected(retrain_json):
    rejected = Result.model_validate(retrain_json | {"promoted": False, "version": None})
    text = Page(report.render(rejected, {})).text
    assert "This model was not promoted" in text
    assert "no version of crosstrain-digits was registered for this run." in text
    kept = formatting.outcome(Result.model_validate(retrain_json | {"promoted": False}))
    assert kept == (
        "Not promoted: crosstrain-digits version 7 is registered, and is not the champion."
    )


def test_the_intervals_are_drawn_at_their_gains(retrain_json):
    gains = [(-0.012, -0.021, -0.004), (0.003, -0.01, 0.016)]
    sources = [
        {
            "name": f"s{i}",
            "verdict": "none",
            "members": [],
            "gain": {"metric": "accuracy", "point": p, "low": low, "high": high},
            "adds": None,
        }
        for i, (p, low, high) in enumerate(gains)
    ]
    page = Page(report.render(Result.model_validate(retrain_json | {"sources": sources}), {}))
    styles = [a["style"] for t, a in page.tags if t in "uib" and "left" in a.get("style", "")]
    zero, bar, point, zero2, bar2, _ = [float(re.search(r"left:([\d.]+)", s)[1]) for s in styles]
    width = float(re.search(r"width:([\d.]+)", styles[1])[1])
    scale = (bar2 - bar) / 0.011
    assert zero == zero2 == pytest.approx(bar + 0.021 * scale, abs=0.05)
    assert point == pytest.approx(bar + 0.009 * scale, abs=0.05)
    assert width == pytest.approx(0.017 * scale, abs=0.05)


def test_images_are_embedded_unchanged(result):
    page = Page(report.render(result, {"source_samples_1": DOT}))
    source = next(a["src"] for t, a in page.tags if t == "img")
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == DOT


@pytest.mark.parametrize("images", [{"unknown": DOT}, {"arms": b"GIF89a"}])
def test_an_unknown_plot_is_refused(result, images):
    with pytest.raises(ValueError, match="expected"):
        report.render(result, images)


def test_metrics_are_the_figures_without_times_and_versions(retrain_json, result):
    metrics = report.metrics(result)
    for name in ("accuracy", "low", "high", "macro_f1", "balanced_accuracy", "log_loss", "ece"):
        assert metrics[name] == getattr(result.chosen, name)
    assert metrics["brier"] == 0.0612
    assert metrics["scratch_accuracy"] == 0.9177
    assert (metrics["gain"], metrics["gain_low"], metrics["gain_high"]) == (0.0434, 0.0267, 0.0601)
    assert (metrics["verdict"], metrics["test_items"]) == ("positive", 899)
    assert json.loads(json.dumps(metrics)) == metrics
    arms = [{**arm, "seconds": 99.0} for arm in retrain_json["arms"]]
    seconds = {**retrain_json["seconds"], "total": 1.0}
    again = retrain_json | {"version": 8, "promoted": False, "mlflow_run": "", "seconds": seconds}
    assert report.metrics(Result.model_validate(again | {"arms": arms})) == metrics


def test_plot_files_contain_the_data_for_dvc(retrain_json):
    names = ['a,b "c"', "d\ne", *"23456789"]
    classes = [{**c, "name": n} for c, n in zip(retrain_json["classes"], names, strict=True)]
    result = Result.model_validate(retrain_json | {"classes": classes})
    cells = np.argwhere(np.array(result.confusion))
    repeated = np.repeat(cells, [result.confusion[t][p] for t, p in cells], axis=0)
    files = report.plots(result, repeated[:, 0], repeated[:, 1], CURVES)
    rows = {n: list(csv.DictReader(io.StringIO(t, newline=""))) for n, t in files.items()}
    counts = np.zeros((10, 10), int)
    for row in rows["confusion.csv"]:
        counts[names.index(row["actual"]), names.index(row["predicted"])] += 1
    assert counts.tolist() == result.confusion
    assert [(r["arm"], float(r["validation"]), float(r["test"])) for r in rows["arms.csv"]] == [
        (f"{a.method}/{a.seed}", a.validation, a.test) for a in result.arms
    ]
    assert [list(map(float, r.values())) for r in rows["reliability.csv"]] == [
        [b.confidence, b.accuracy] for b in result.reliability
    ]
    assert files["curves.csv"] == "arm,step,loss\nl2_sp/0,10,1.5\nl2_sp/0,20,0.25\n"


def test_markdown_states_the_verdict_and_keeps_its_tables_intact(retrain_json):
    nasty = Result.model_validate(
        retrain_json | {"sentence": "a | b <i>\n# c", "reasons": ["[x](javascript:y)"]}
    )
    text = report.markdown(nasty)
    assert text.startswith("## Positive: a \\| b \\<i\\> \\# c\n")
    assert "**Promoted: crosstrain-digits version 7 is the champion.**" in text
    assert "- \\[x\\](javascript:y)" in text
    assert "| chosen model (stacked of 6), accuracy | 96.1% | [94.6, 97.2] |" in text
    assert "| gain in accuracy, points | +4.3 | [+2.7, +6.0] |" in text
    assert "| l2\\_sp | 2 | 94.3% | 95.3% | [93.7, 96.6] | 26.0 s | 0.10 |" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    bars = [len(re.findall(r"(?<!\\)\|", line)) for line in table]
    assert bars == [4] * 5 + [8] * 14


def printed(result, **options):
    console = Console(file=io.StringIO(), **options)
    report.terminal(result, console, Path("reports/retrain.html"))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_pipe_gets_ascii_within_a_hundred_columns(retrain_json, width):
    changes = {"sentence": "猫 ↑ " + "far better " * 20, "reasons": ["[red]not markup[/red] :cat:"]}
    text = printed(Result.model_validate(retrain_json | changes), width=width)
    assert text.isascii() and "\x1b" not in text
    assert max(map(len, text.splitlines())) <= min(width, 100)
    assert "\\u732b" in text
    assert "- [red]not markup[/red] :cat:" in text
    assert re.search(
        r"l2_sp +\| +2 +\| +94\.3 +\| 95\.3 \[93\.7, 96\.6\] +\| 26\.0 s +\| +0\.10", text
    )
    assert re.search(r"chosen model .* 96\.1 \[94\.6, 97\.2\]", text)
    assert "Promoted: crosstrain-digits version 7 is the champion." in text
    assert "Report: reports/retrain.html" in text


def test_a_terminal_gets_colour_and_no_control_characters_of_users(retrain_json):
    changes = {"sentence": "猫 \x1b]0;title\x07", "verdict": "negative"}
    text = printed(Result.model_validate(retrain_json | changes), width=100, force_terminal=True)
    assert "\x1b[1;31m猫 ?]0;title?" in text


def test_the_reason_of_a_refusal_is_shown(retrain_json):
    rules = [{"rule": "calibration", "passed": False, "found": "0.2", "expected": "at most 0.05"}]
    rejected = Result.model_validate(
        retrain_json | {"promoted": False, "reasons": [], "rules": rules}
    )
    text = printed(rejected, width=100)
    assert "Not promoted: crosstrain-digits version 7 is registered" in text
    assert "- calibration: found 0.2, expected at most 0.05" in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 ms"), (0.0124, "12 ms"), (0.9996, "1.0 s"), (59.96, "60.0 s"), (119.96, "2 min 00 s")],
)
def test_durations(seconds, words):
    assert formatting.duration(seconds) == words


def test_points_have_a_sign():
    assert [formatting.points(x) for x in (0.0434, 0.0, -0.0001, -0.012)] == [
        "+4.3",
        "+0.0",
        "+0.0",
        "−1.2",
    ]


def test_long_lists_are_cut():
    assert formatting.listed(["a", "b"]) == "2 (a, b)"
    assert formatting.listed(list("abcd"), shown=2) == "4 (a, b and 2 more)"


def test_a_reason_that_is_a_row_of_the_rules_is_not_shown_twice(retrain_json):
    rule = {"rule": "calibrated", "passed": True, "found": "error 0.01", "expected": "0.05"}
    reasons = ["calibrated: found error 0.01; expected 0.05", "asked for by hand"]
    page = report.render(
        Result.model_validate({**retrain_json, "rules": [rule], "reasons": reasons}), {}
    )
    assert page.count("error 0.01") == 1
    assert "asked for by hand" in page
