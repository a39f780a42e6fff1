"""The report of a night: read from what the night left, shown as text or as one HTML page."""
