"""Record batches, magic 2: header, records, codecs and checksums. No I/O, no other room needed."""

from __future__ import annotations
