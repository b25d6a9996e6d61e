"""The one elected controller: topics, partitions, leaders and settings of the cluster."""
