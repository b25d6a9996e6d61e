"""Looking after a cluster: topics, settings, groups and their offsets."""
