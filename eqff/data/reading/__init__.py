"""The door for data files: whatever file holds frames is read here; a format converts the units, nothing else does."""
