"""How long a test waits for what must happen: only a hang takes as long, on the busiest machine."""

PATIENCE = 3600.0  # seconds
