from __future__ import annotations
import hashlib
def is_held_out(record, share=0.2):
    last = next((m.content for m in reversed(record.prompt) if m.role == "user"), "")
    return int.from_bytes(hashlib.sha256(("held-out/" + last).encode()).digest()[:8], "big") / 2**64 < share
