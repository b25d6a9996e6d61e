"""Producers, consumers and the admin client: everything an application holds in its hands.

Uses ``network`` (one channel a broker), ``messages`` and ``records``; knows nothing of the broker's rooms.
The core is asyncio; ``ottla.Producer`` and its neighbours run the same core on a thread of their own.
"""
