"""Git as a source of configs: read, never run."""
