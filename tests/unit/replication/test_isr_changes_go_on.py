"""Changes of ISRs go on after one that went wrong."""

from __future__ import annotations

from typing import Any

from tests.unit.replication.test_isr_changes import eventually, on_a_loop, stage


def test_changes_go_on_after_a_partition_failed_over_its_answer() -> None:
    async def main() -> None:
        leader, controller, changes = await stage([1, 2, 3], [1])

        class Broken:
            def committed(self, token: object) -> None:
                raise RuntimeError("ours to mend")

            def failed(self, token: object, code: Any) -> None: ...

        leader.fetch(2, 0)
        await eventually(lambda: controller.pending)
        leader.append()
        assert not leader.partition.when_committed(1, Broken(), None)
        leader.dead.add(2)
        controller.accept([1], 1)  # 2 is gone: the record is committed
        await eventually(lambda: leader.partition.partition_epoch == 1)
        leader.fetch(3, 1)
        await eventually(lambda: controller.pending)
        await changes.close()

    on_a_loop(main)
