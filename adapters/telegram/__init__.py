"""Telegram, by its Bot API and python-telegram-bot. Knows nothing of the conversation."""
