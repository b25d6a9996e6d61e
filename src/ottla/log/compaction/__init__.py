"""Compaction of a log: what is chosen, what is kept, and who does it.

``choice`` says which log is the dirtiest and how far it may be cleaned; ``cleaning`` makes the cleaned
segments, in a ``worker`` process that ``process`` starts and ends; ``ottla.log.cleaned_log`` puts them in the
place of the old ones. ``docs/decisions`` says why it is a process and how a crash at any moment is survived.
"""
