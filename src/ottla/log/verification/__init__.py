"""Looking for damage in the files of a log, without changing any: what ``ottla log verify`` does.

``walk`` reads a segment batch by batch in bounded memory; ``segments`` holds a segment and its indexes
against the rules, ``partitions`` a partition's directory, ``directories`` a log directory. What is found is
a ``Finding``. A broker may be at work in the same files meanwhile.
"""

from __future__ import annotations
