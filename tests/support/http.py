"""A GET with the standard library, and /metrics as prometheus_client reads it."""

from __future__ import annotations

import http.client
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

DEADLINE_S = 20.0


class Answer(NamedTuple):
    """Status, content type and body."""

    status: int
    content_type: str
    text: str


def get(address: tuple[str, int], path: str, method: str = "GET") -> Answer:
    """Ask once; raises ``OSError`` and ``http.client.HTTPException``."""
    connection = http.client.HTTPConnection(*address, timeout=DEADLINE_S)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return Answer(
            response.status, response.getheader("Content-Type") or "", response.read().decode()
        )
    finally:
        connection.close()


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples_of(text: str) -> Samples:
    """Every sample by its name and labels; a family or a sample that stands twice is a failure."""
    found: Samples = {}
    families = set()
    for family in text_string_to_metric_families(text):
        assert family.name not in families, family.name
        families.add(family.name)
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram"), family.name
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def metrics(address: tuple[str, int]) -> Samples:
    """What /metrics says now."""
    answer = get(address, "/metrics")
    assert answer.status == 200
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    return samples_of(answer.text)


def value(samples: Samples, name: str, **labels: object) -> float:
    """One sample."""
    return samples[name, tuple(sorted((key, str(text)) for key, text in labels.items()))]
