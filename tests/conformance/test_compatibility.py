"""docs/compatibility.md says what the program is, and leaves nothing out."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib

import pytest

from ottla.messages.registry import API_NAMES, API_VERSIONS_RANGES
from ottla.settings.broker_settings import BROKER_SETTINGS
from ottla.settings.topic_settings import TOPIC_SETTINGS
from tools import compatibility

PAGE = (compatibility.ROOT / compatibility.PAGE).read_text()
KAFKA = json.loads((compatibility.ROOT / compatibility.KAFKA_APIS).read_text())


def test_the_page_is_up_to_date() -> None:
    assert compatibility.text() == PAGE, "make docs writes it anew"


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_docs_writes_it_although_there_is_a_directory_of_that_name() -> None:
    told = subprocess.run(
        ["make", "-n", "docs"], cwd=compatibility.ROOT, capture_output=True, text=True, check=True
    )
    assert "-m tools.compatibility" in told.stdout
    assert "-m tools.cli_reference" in told.stdout


def test_every_api_and_every_setting_is_on_it() -> None:
    rows = {row["key"]: row for row in KAFKA["apis"]}
    for key, name in API_NAMES.items():
        assert rows[key]["name"] == name
        low, high = API_VERSIONS_RANGES[key]
        ours = f"{low}-{high}" if low != high else f"{low}"
        assert re.search(rf"^\| {key} \| {name} \| [^|]+ \| {ours} \|", PAGE, re.M), name
    for name in (*TOPIC_SETTINGS, *BROKER_SETTINGS):
        assert f"| `{name}` |" in PAGE


def test_an_api_that_clients_may_use_and_is_not_there_is_explained() -> None:
    absent = re.findall(r"^\| \d+ \| (\w+) \| [^|]+ \| no \| (.*) \|$", PAGE, re.M)
    assert absent
    assert [name for name, why in absent if not why] == []


@pytest.mark.parametrize(
    "subject",
    tomllib.loads((compatibility.ROOT / compatibility.DIFFERENCES).read_text())["subject"],
    ids=lambda subject: subject["name"],
)
def test_what_is_said_by_hand_points_at_what_is_there(subject: dict[str, list[str]]) -> None:
    for item in subject["differences"]:
        for target in re.findall(r"\]\(([^)#]+)\)", item):
            assert (compatibility.ROOT / "docs" / target).exists(), target
