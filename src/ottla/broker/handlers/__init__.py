"""A handler an API: ``handle(broker, request)`` returns a response, an awaitable of one, or None.

A handler is plain code on the event loop. It answers with Kafka's error codes; an exception that is not a
``KafkaError`` is a bug and ends the connection.
"""
