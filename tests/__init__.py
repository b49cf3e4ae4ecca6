"""The tests. `unit` mirrors the source tree; `integration` runs against real processes; `support` helps both."""
