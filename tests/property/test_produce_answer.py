"""An answer from a template is the answer that encoding makes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ottla.messages.produce import PartitionProduceResponse, ProduceResponse, TopicProduceResponse
from ottla.messages.produce_answer import PARTITIONS_MAX, produce_answer, produce_answers
from ottla.messages.registry import encode_response, encode_size

INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
FIRST, LAST = ProduceResponse.__versions__


@given(
    st.integers(FIRST, LAST), st.text(max_size=300), st.binary(min_size=16, max_size=16), INT32,
    INT32, INT64, INT64, INT64,
)  # fmt: skip
def test_a_template_says_what_encoding_says(
    version: int,
    topic: str,
    topic_id: bytes,
    index: int,
    correlation_id: int,
    base_offset: int,
    log_append_time_ms: int,
    log_start_offset: int,
) -> None:
    template = produce_answer(version, topic, topic_id, index)
    assert (template is None) == (version < 5)
    if template is None:
        return
    partition = PartitionProduceResponse(
        index=index,
        base_offset=base_offset,
        log_append_time_ms=log_append_time_ms,
        log_start_offset=log_start_offset,
    )
    of_topic = TopicProduceResponse(name=topic, topic_id=topic_id, partition_responses=[partition])
    chunks = encode_response(0, version, correlation_id, ProduceResponse(responses=[of_topic]))
    assert template.encoded(
        correlation_id, base_offset, log_append_time_ms, log_start_offset
    ) == encode_size(chunks) + b"".join(bytes(chunk) for chunk in chunks)


@given(
    st.integers(FIRST, LAST), st.text(max_size=300), st.binary(min_size=16, max_size=16), INT32,
    st.lists(st.tuples(INT32, INT64, INT64, INT64), max_size=PARTITIONS_MAX + 1),
)  # fmt: skip
def test_a_template_for_several_partitions_says_what_encoding_says(
    version: int,
    topic: str,
    topic_id: bytes,
    correlation_id: int,
    partitions: list[tuple[int, int, int, int]],
) -> None:
    template = produce_answers(version, topic, topic_id, len(partitions))
    assert (template is None) == (version < 5 or not 0 < len(partitions) <= PARTITIONS_MAX)
    if template is None:
        return
    answers = [
        PartitionProduceResponse(
            index=index, base_offset=base, log_append_time_ms=time_ms, log_start_offset=start
        )
        for index, base, time_ms, start in partitions
    ]
    of_topic = TopicProduceResponse(name=topic, topic_id=topic_id, partition_responses=answers)
    chunks = encode_response(0, version, correlation_id, ProduceResponse(responses=[of_topic]))
    columns = tuple(zip(*partitions, strict=True))
    assert template.encoded(correlation_id, *columns) == encode_size(chunks) + b"".join(
        bytes(chunk) for chunk in chunks
    )
