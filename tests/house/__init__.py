"""The house itself: its walls, its signs on the doors, and its documentation."""

from pathlib import Path

REPO = Path(__file__).parents[2]
