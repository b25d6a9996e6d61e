"""Partitions as a broker holds them: who leads, what is committed, who waits for it."""
