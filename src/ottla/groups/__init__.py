"""Consumer groups: who is in a group and which offsets it committed, kept in ``__consumer_offsets``.

``group`` (with ``membership`` and ``outcome``), ``offsets``, ``expiry`` and ``group_records`` are sans-IO;
``coordinator`` is the shell that appends their records and parks the answers until those are committed.
"""
