"""Numbered migrations, run by Alembic when the store is opened. A released one never changes."""
