"""Doors for programs over `control`: thin, and never on a prediction's way."""
