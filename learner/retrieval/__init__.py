"""Finding what was said before: text cut into terms, hits ranked, sentences as vectors.

Knows nothing of tables (learner/store/memories.py) or of prompts.
"""
