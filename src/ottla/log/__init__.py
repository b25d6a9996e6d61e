"""The log of one partition: segments, indexes, producer state, recovery; Kafka's files to the byte."""
