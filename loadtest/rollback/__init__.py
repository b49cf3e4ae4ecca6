"""How soon a bad canary is rolled back, and how often a good one is: a seeded simulation of the engine that runs."""
