"""Consumer groups: who is in a group and which offsets it committed, kept in ``__consumer_offsets``.

Sans-IO: ``group`` on ``lifecycle`` and ``membership`` (the state machine), ``outcome`` (what it asks for),
``offsets``, ``subscription``, ``group_records``, ``partitioner``. The shell: ``coordinator`` (the operations) on
``ledger`` (loading, appending, expiring), with a ``shard`` for each partition, and ``parking`` and ``replies`` for
answers that wait.
"""
