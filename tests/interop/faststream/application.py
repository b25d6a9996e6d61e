"""The application: ``BROKER`` and ``BACKEND`` in the environment say where and with what, ``PREFIX`` begins every topic."""

from __future__ import annotations

import os

from faststream import FastStream
from pydantic import BaseModel, Field, PositiveInt

if os.environ["BACKEND"] == "confluent":
    from faststream.confluent import KafkaBroker
else:
    from faststream.kafka import KafkaBroker

PREFIX = os.environ["PREFIX"]

broker = KafkaBroker(os.environ["BROKER"])
app = FastStream(broker)


class User(BaseModel):
    user: str = Field(..., examples=["John"])
    user_id: PositiveInt = Field(..., examples=[1])


@broker.subscriber(f"{PREFIX}.in", auto_offset_reset="earliest")
@broker.publisher(f"{PREFIX}.out")
async def handle_msg(data: User) -> str:
    return f"User: {data.user} - {data.user_id} registered"


@broker.subscriber(
    f"{PREFIX}.numbers", batch=True, group_id=f"{PREFIX}.sums", auto_offset_reset="earliest"
)
@broker.publisher(f"{PREFIX}.sums")
async def add(numbers: list[int]) -> int:
    return sum(numbers)


@broker.subscriber(f"{PREFIX}.work", group_id=f"{PREFIX}.workers", auto_offset_reset="earliest")
@broker.publisher(f"{PREFIX}.done")
async def work(number: int) -> dict[str, int]:
    return {"number": number, "process": os.getpid()}
