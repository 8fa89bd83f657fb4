"""From what the user says to a Plan: frames, split, statistics, model, initial weights."""
