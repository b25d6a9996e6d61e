"""Ottla beside Apache Kafka and others: the same work for each in turn, in one run.

An absolute figure says little on a machine whose speed varies; the ratio of two figures of the same minute says it,
taken several times in alternating order. ``python -m bench.peers --help``, ``bench/README.md``.
"""
