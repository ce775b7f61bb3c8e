"""Doors: one file per protocol, each from bytes to the data plane and back."""
