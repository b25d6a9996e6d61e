"""One broker's disk fills up, or its sync fails: the others go on, and it comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.bounces import BOUNCES, SEED
from tests.cluster.processes import ClusterProcesses
from tests.cluster.trial import Trial
from tests.crash.volume import ThinVolume, Volume, require_volumes, takes
from tests.support.waiting import eventually
from tests.support.zookeeper import Ensemble

pytestmark = pytest.mark.interop

VICTIM = 2
SETTINGS = {"replica.lag.time.max.ms": 1_500}


def test_a_full_disk_costs_nothing_acknowledged_and_heals_with_room(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    require_volumes()
    with Volume(tmp_path, size_mb=64) as volume:
        data = {VICTIM: volume.path / "data"}
        with (
            ClusterProcesses(tmp_path, ensemble, SETTINGS, data=data) as cluster,
            Trial(cluster, SEED) as trial,
        ):
            trial.begin()
            followed = next(p for p in trial.places if cluster.leader(*p) != VICTIM)
            ballast = volume.path / "ballast"

            def fill(_: int) -> None:
                trial.note(f"the disk of broker {VICTIM} is full")
                with ballast.open("wb", buffering=0) as file:
                    for size in (1 << 20, 1 << 10):
                        while takes(file.fileno(), bytes(size)):
                            pass
                cluster.wait_until_isr(followed, set(cluster.brokers) - {VICTIM})
                trial.await_progress_of([followed])
                trial.note("there is room again")
                ballast.unlink()

            trial.repeat(BOUNCES, fill)
            trial.finish()


def test_a_failed_sync_costs_nothing_acknowledged(ensemble: Ensemble, tmp_path: Path) -> None:
    require_volumes()
    with ThinVolume(tmp_path, size_mb=64) as volume:
        data = {VICTIM: volume.path / "data"}
        with (
            ClusterProcesses(tmp_path, ensemble, SETTINGS, data=data) as cluster,
            Trial(cluster, SEED) as trial,
        ):
            trial.begin()

            def break_disk(_: int) -> None:
                trial.note(f"syncs of broker {VICTIM} fail")
                volume.break_writes()
                eventually(
                    lambda: not cluster.is_running(VICTIM), "a broker without a disk ends", 60.0
                )
                trial.await_progress()
                volume.mend()
                trial.note(f"broker {VICTIM} has a disk again")
                cluster.start_broker(VICTIM)

            trial.repeat(BOUNCES, break_disk)
            trial.finish()
