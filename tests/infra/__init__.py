"""Compose, images, workflows, locks and instance files, without an engine and without a network."""

from pathlib import Path

REPO = Path(__file__).parents[2]
