"""The report of a search for detectors."""
