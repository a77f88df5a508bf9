"""The summary of an ingest."""

import io

from rich.console import Console

from tasks.reports.ingest_summary import markdown, terminal
from transfer.data.ingest.changes import Added, Changes, ClassChange, Conflict, Rejected

NOTHING = dict.fromkeys(("removed", "relabelled_to", "relabelled_from", "duplicates"), 0)
CHANGES = Changes(
    dataset="plants",
    delivery="new|<b>.zip",
    digest="d",
    before="",
    after="a",
    taken=True,
    refused="",
    classes={"ro|se": ClassChange(before=3, added=1, conflicts=1, after=4, **NOTHING)},
    added=[Added(path="ro|se/1.png", id="ro|se/1.png", label="ro|se")],
    removed=[],
    relabelled=[],
    duplicates=[],
    conflicts=[Conflict(path="a", label="ro|se", of="b", stands_under="oak")],
    rejects=[
        Rejected(path=f"bad{n}.png\x1b[2J", reason="unreadable", detail="cut") for n in range(30)
    ],
    concerns=["class 'ro|se' has 4 items; training expects 5"],
    quarantine="quarantine/d",
    commit="c" * 40,
    pushed=True,
)


def test_markdown_contains_the_numbers_and_no_markup_of_users():
    text = markdown(CHANGES)
    assert r"| ro\|se | 3 | 1 |  |  |  |  | 1 | 4 |" in text
    assert r"new\|\<b\>.zip into plants: 1 added, 1 conflicts, 30 rejected" in text
    assert "conflict: a is ro\\|se, and equals b, which is oak" in text
    assert text.count("rejected: ") == 10
    assert "all 30 rejected files, with reasons: quarantine/d" in text


def test_the_terminal_shows_no_control_characters():
    file = io.StringIO()
    terminal(CHANGES, Console(file=file, width=100))
    text = file.getvalue()
    assert "\x1b" not in text
    assert "class 'ro|se' has 4 items" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_refusal_gives_its_reason_first():
    refused = CHANGES.model_copy(update={"taken": False, "refused": "too much is wrong"})
    assert markdown(refused).startswith("## new\\|\\<b\\>.zip into plants: refused")
    assert "- too much is wrong\n- conflict" in markdown(refused)
