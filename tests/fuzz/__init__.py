"""Coverage-guided fuzzing of every decoder and of a broker's sockets: ``make fuzz``."""
