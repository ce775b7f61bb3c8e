"""The words `mlops` understands. Parses, calls control, shows; decides nothing."""
