"""The only room that says Dagster: the corridor between the stations, and nothing a station should decide."""
