"""The weather application: observations flow from one program through a broker to others.

``capture`` publishes, ``stroll`` tells when the weather is good for a stroll, ``summary`` reads the same
stream for another purpose, ``demo`` runs them all. See README.md beside this file.
"""
