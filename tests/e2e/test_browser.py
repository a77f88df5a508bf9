"""The button, in a real browser: the form, a run to its end, its artifact, the champion.

Needs Chromium, of Debian's package, and is for `make test-browser`. With SCREENSHOTS set to a
folder, pictures for the documents are left there.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e.served import Served

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "no chromium on the path; install Debian's package of that name"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1280, "height": 900})
        browser.close()


def picture(page: Page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(1000)
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_a_click_retrains_with_a_changed_parameter(served: Served, page: Page) -> None:
    prefect, mlflow = (f"http://127.0.0.1:{port}" for port in served.ports)
    deployment = served.deployment("retrain")["id"]
    page.goto(f"{prefect}/deployments/deployment/{deployment}/run")
    label = page.get_by_text("Labels Per Class")
    expect(label).to_be_visible(timeout=30_000)
    assert page.get_by_text("Share of items for the test split, 0 to 1.").count() == 1
    assert page.get_by_text("Rotate").count() == 0  # of the augmentation; by name, under "More"
    field = page.locator(".schema-form-property", has=label).last
    field.get_by_text("int", exact=True).click()
    field.locator("input").last.fill("9")
    label.scroll_into_view_if_needed()
    picture(page, "form")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/deployments/deployment/*?tab=Runs", timeout=30_000)

    runs = served.ask("POST", "/flow_runs/filter")
    (run,) = [run_of_api for run_of_api in runs if "auto-scheduled" not in run_of_api["tags"]]
    assert run["parameters"]["settings"]["labels_per_class"] == 9
    page.goto(f"{prefect}/runs/flow-run/{run['id']}")
    expect(page.get_by_text("Completed").first).to_be_visible(timeout=240_000)
    picture(page, "run")
    page.get_by_text("Artifacts", exact=True).first.click()
    expect(page.get_by_text("verdict").first).to_be_visible(timeout=30_000)
    (artifact,) = served.ask("POST", "/artifacts/filter", artifacts={"key": {"any_": ["verdict"]}})
    page.goto(f"{prefect}/artifacts/artifact/{artifact['id']}")
    expect(page.get_by_text("chosen model").first).to_be_visible(timeout=30_000)
    expect(page.get_by_text("crosstrain-small version 1").first).to_be_visible()
    picture(page, "artifact")

    page.goto(f"{mlflow}/#/models/crosstrain-small")
    expect(page.get_by_text("champion").first).to_be_visible(timeout=30_000)
    picture(page, "champion")
    assert [event["event"] for event in served.ledger()] == ["promoted"]
