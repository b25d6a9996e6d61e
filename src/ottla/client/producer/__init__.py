"""Producing: records gather in batches a partition, a sender takes them to the partitions' leaders."""
