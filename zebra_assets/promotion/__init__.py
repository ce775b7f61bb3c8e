"""The gate, and the only mover of aliases: promote, rollback, reconcile."""
