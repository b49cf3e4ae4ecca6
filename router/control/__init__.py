"""The control process: reads configs, readies versions, tells the workers, adds up what they saw."""
