"""What a broker does in the store before anything else: Kafka's top-level znodes, and its registration.

Rules: every step may be repeated, after a crash in the middle too. A new embedded store is made with
``initial_layout`` already in it, which spares a transaction; ``prepare_layout`` then finds all in place.
"""

from __future__ import annotations

from ottla import topic_ids
from ottla.coordination import znodes
from ottla.coordination.store import Check, Create, NodeExists, NoNode, Store
from ottla.coordination.znodes import BrokerRegistration
from ottla.errors import ErrorCode, KafkaError

# Kafka's ZkData.PersistentZkPaths, parents first.
_EMPTY_ZNODES = (
    znodes.CONSUMERS,
    "/brokers",
    znodes.BROKER_IDS,
    znodes.TOPICS,
    znodes.BROKER_SEQUENCE_ID,
    znodes.CONFIG,
    znodes.CONFIG_CHANGES,
    *(f"{znodes.CONFIG}/{entity_type}" for entity_type in znodes.CONFIG_ENTITY_TYPES),
    "/admin",
    znodes.DELETE_TOPICS,
    znodes.ISR_CHANGES,
    znodes.LOG_DIR_EVENTS,
    znodes.PRODUCER_ID_BLOCK,
    "/cluster",
)


def new_cluster_id() -> str:
    """A cluster id as Kafka makes them: 22 characters of URL-safe base64."""
    return topic_ids.to_text(topic_ids.random_topic_id())


def initial_layout(cluster_id: str) -> list[Create]:
    """Everything that a cluster's store holds before its first broker, parents first."""
    return [
        *(Create(path) for path in _EMPTY_ZNODES),
        Create(znodes.CONTROLLER_EPOCH, znodes.encode_controller_epoch(0)),
        Create(znodes.FEATURE, znodes.encode_features({})),
        Create(znodes.CLUSTER_ID, znodes.encode_cluster_id(cluster_id)),
    ]


async def prepare_layout(store: Store, cluster_id: str | None = None) -> str:
    """Create what is missing of the layout and return the cluster's id.

    ``cluster_id`` (else a random one) is proposed where the store has none yet. Raises
    INCONSISTENT_CLUSTER_ID where a single broker's state is there in part.
    """
    while True:
        layout = initial_layout(cluster_id or new_cluster_id())
        paths = [create.path for create in layout]
        unfinished, *present = await store.get_many([znodes.EXPORT, *paths])
        if unfinished is not None:
            raise KafkaError(
                ErrorCode.INCONSISTENT_CLUSTER_ID,
                "a broker's state is there in part: run its ottla store export again, to the end",
            )
        missing = [create for create, znode in zip(layout, present, strict=True) if znode is None]
        if not missing:
            identity = present[-1]
            assert identity is not None
            return znodes.decode_cluster_id(identity.data)
        try:
            await store.multi(missing)
        except (NodeExists, NoNode):  # another broker of the cluster is at it too
            continue


async def catch_up(store: Store) -> None:
    """Have the server that this session is connected to know all that was written before now, by whomever.

    A server of an ensemble may be behind the one that took another session's write: what a broker was just told of
    may not be there yet when it reads it. A write, even one that changes nothing, is answered by a server only after
    it has taken in all before it. (``sync`` would do, but for a leader that has lost its quorum.) Raises what the
    store raises.
    """
    await store.multi((Check(znodes.CONTROLLER_EPOCH),))


async def read_cluster_id(store: Store) -> str | None:
    """The cluster's id, or None in a store that was never prepared."""
    (znode,) = await store.get_many([znodes.CLUSTER_ID])
    return znodes.decode_cluster_id(znode.data) if znode is not None else None


async def notify_log_dir_event(store: Store, broker_id: int) -> None:
    """Tell the controller that a log directory of this broker failed. Raises what the store raises."""
    data = znodes.encode_log_dir_event(broker_id)
    await store.create(znodes.LOG_DIR_EVENT_PREFIX, data, sequential=True)


async def register_broker(store: Store, registration: BrokerRegistration) -> int:
    """Announce a live broker for as long as the session lives; returns its broker epoch.

    Raises DUPLICATE_BROKER_REGISTRATION if another session holds this broker id.
    """
    path = znodes.broker_path(registration.broker_id)
    try:
        created = await store.create(path, registration.encode(), ephemeral=True)
    except NodeExists:
        stat = await store.exists(path)
        if stat is not None and stat.ephemeral_owner == store.session_id:
            return stat.czxid  # our own create, whose answer was lost
        raise KafkaError(
            ErrorCode.DUPLICATE_BROKER_REGISTRATION,
            f"another broker is registered with id {registration.broker_id}",
        ) from None
    return created.stat.czxid
