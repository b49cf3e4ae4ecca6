"""The language operators write: one YAML file per model, and how the router runs."""
