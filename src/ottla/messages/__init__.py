"""Kafka's requests and responses: a module an API, all its versions in one class each."""
