"""Programs that keep this repository true to its code; no part of what is installed."""
