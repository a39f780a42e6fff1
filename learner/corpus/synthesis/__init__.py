"""Training dialogues made by asking a model: a character from its name, answers in another style.

Knows nothing of platforms, settings or training.
"""
