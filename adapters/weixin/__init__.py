"""Weixin through the interface that Tencent publishes for bots (iLink): direct chats, login by QR code."""
