"""Consuming: positions, fetches, and the membership in a group."""
