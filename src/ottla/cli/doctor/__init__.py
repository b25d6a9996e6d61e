"""``ottla doctor``: what is wrong with a data directory, with settings, or with a client's address.

Rules: nothing is changed, nothing is written, no topic is made; every finding says what is wrong, why that
matters and what to do; what can't be found out is not guessed.
"""

from __future__ import annotations
