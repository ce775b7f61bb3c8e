"""Alembic's way in. The connection and its transaction come from `adapters/state`, which knows the lock to hold."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
