"""Published data sets: where they are, how to get them, their official splits."""
