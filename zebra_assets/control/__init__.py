"""The verbs behind every command and button, and what can be asked. Imports no dagster and prints nothing."""
