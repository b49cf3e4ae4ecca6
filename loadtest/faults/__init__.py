"""What must hold when something breaks: see `python -m loadtest.faults --help`."""
