"""What router.yaml may say under `notify`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from router.config.settings import Settings, load_settings
from router.errors import OperatorError


def refusal(text: str, folder: Path) -> str:
    """The one problem of `notify: [text]`."""
    file = folder / "router.yaml"
    file.write_text(f"notify: [{text}]\n", encoding="utf-8")
    with pytest.raises(OperatorError) as caught:
        load_settings(file, {}, {})
    return caught.value.message.rpartition("notify[0].")[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{url: ftp://x}", "url: must be an http or https URL"),
        ("{url: 'https://a:0'}", "url: must be an http or https URL"),
        ("{url: 'https://a:x'}", "url: host or port of the URL cannot be read"),
        ("{url: 'https://a b'}", "url: a URL holds no spaces"),
        ("{url: 'https://u:p@a'}", "url: the URL of a webhook holds no user"),
        ("{url: {}}", "url: must be a URL, or exactly one of"),
        ("{url: {env: A, file: B}}", "url: must be a URL, or exactly one of"),
        ("{kind: slack}", "url: this key is missing"),
        ("{url: https://a, kind: x}", "kind: must be one of webhook, slack, not 'x'"),
        ("{url: https://a, kind: []}", "kind: must be one of webhook, slack, not that"),
        ("{url: https://a, on: []}", "on: the list is empty"),
        ("{url: https://a, on: [x]}", "on[0]: must be one of rollback"),
        ("{url: https://a, secret: abc}", "secret: a credential is never written into a config"),
        ("{url: https://a, other: 1}", "other: unknown key"),
    ],
)
def test_what_is_wrong_is_told_at_its_place(text: str, message: str, tmp_path: Path) -> None:
    assert refusal(text, tmp_path).startswith(message)


def test_no_message_repeats_a_url() -> None:
    with pytest.raises(OperatorError) as caught:
        load_settings(None, {"CANARY_ROUTER_NOTIFY": "slack=https://u:hush@a"}, {})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("text", ["https://a", "mail=https://a"])
def test_a_variable_names_the_kind(text: str) -> None:
    with pytest.raises(OperatorError, match="webhook=URL or slack=URL"):
        load_settings(None, {"CANARY_ROUTER_NOTIFY": text}, {})


def test_settings_survive_the_way_to_the_children() -> None:
    found = load_settings(None, {"CANARY_ROUTER_NOTIFY": "slack=https://a/b"}, {})
    assert Settings.model_validate(json.loads(found.model_dump_json())) == found
