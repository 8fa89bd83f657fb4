"""The one door: whatever file holds frames, this reads it; units are converted here and in formats, nowhere else."""
