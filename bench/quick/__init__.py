"""``make bench-quick``: what fixed works cost in instructions, beside what they cost in the last release.

Times tell little on a machine whose speed varies, and this one has no counter of instructions for a guest. So valgrind
counts those that our processes execute: the same work has the same count, within about a percent, whatever else runs.
"""
