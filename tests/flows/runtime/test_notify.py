"""Notifications through a real block that posts to a real server."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.testing.utilities import prefect_test_harness

from flows.runtime import notify
from transfer.settings.service import NotifySettings

PAYLOAD = {"model": "crosstrain-plants", "version": 2, "reasons": ["better", "servable"]}


@pytest.fixture(scope="module")
def received() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Port of a server, and the messages posted to it."""
    posted: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            posted.append(json.loads(self.rfile.read(length)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, posted
    server.shutdown()


@pytest.fixture(scope="module")
def block(received: tuple[int, list[dict[str, Any]]]) -> Iterator[str]:
    """Name of a webhook block that posts there."""
    with prefect_test_harness(server_startup_timeout=120):
        CustomWebhookNotificationBlock(
            name="team",
            url=f"http://127.0.0.1:{received[0]}/hook",
            json_data={"subject": "{{subject}}", "text": "{{body}}"},
        ).save("team")
        yield "custom-webhook/team"


def test_a_promotion_is_sent(block: str, received: tuple[int, list[dict[str, Any]]]) -> None:
    notify.emit_and_notify("promoted", "plants", PAYLOAD, NotifySettings(block=block))
    assert received[1].pop() == {
        "subject": "crosstrain: plants promoted",
        "text": "model: crosstrain-plants\nversion: 2\n- better\n- servable",
    }


def test_events_that_are_not_configured_are_not_sent(
    block: str, received: tuple[int, list[dict[str, Any]]]
) -> None:
    notify.emit_and_notify(
        "promoted", "plants", PAYLOAD, NotifySettings(block=block, of=("failed",))
    )
    notify.emit_and_notify("promoted", "plants", PAYLOAD, NotifySettings())
    assert received[1] == []


def test_a_failed_message_does_not_stop_the_run_and_shows_no_secret(
    block: str, caplog: pytest.LogCaptureFixture
) -> None:
    secret = CustomWebhookNotificationBlock(name="gone", url="http://127.0.0.1:9/secret")
    secret.save("gone", overwrite=True)
    for name in ("custom-webhook/gone", "slack-webhook/none"):
        notify.emit_and_notify("drift", "plants", {}, NotifySettings(block=name))
        assert f"could not notify {name}" in caplog.text
    assert "/secret" not in caplog.text


def test_without_settings_nobody_is_notified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert notify.notify_settings() == NotifySettings()
    assert "nobody can be notified: there is no params.yaml" in caplog.text
    (tmp_path / "params.yaml").write_text("notify: {block: slack-webhook/team}")
    assert notify.notify_settings().block == "slack-webhook/team"
