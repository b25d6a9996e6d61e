"""``python -m ottla``: the command, without its script."""

from __future__ import annotations

import sys

from ottla.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
