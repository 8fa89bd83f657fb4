"""Published data sets: a catalogue, downloads, official splits."""
