"""The broker: wiring, what it knows of the cluster, and a handler an API."""
