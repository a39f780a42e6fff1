"""QQ for nightschool, by OneBot v11 over WebSocket. Knows nothing of bots or learning."""
