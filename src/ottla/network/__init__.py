"""Connections: frames, requests and answers, on the broker's side and on the client's."""
