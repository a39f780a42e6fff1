"""Alembic's entry: runs the migrations on the connection that the store hands over.

Knows nothing of URLs or files; there is no alembic.ini.
"""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
