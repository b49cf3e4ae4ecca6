"""The router beside other proxies, and what it takes for models, connections and snapshots."""
