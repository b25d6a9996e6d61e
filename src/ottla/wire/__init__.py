"""The wire: primitive types, the message schema and its compiler. Knows no API."""
