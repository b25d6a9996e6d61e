"""Stand-ins for the world (disk, later network and time), with faults on demand. Only tests import it."""
