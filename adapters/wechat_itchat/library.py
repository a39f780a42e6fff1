"""Brings itchat in: it writes to the terminal when imported, and has a log of its own. Knows nothing else."""

from __future__ import annotations

import contextlib
import io

# itchat has no types: its names are untyped here, and typed where they are used.
with contextlib.redirect_stdout(io.StringIO()):
    import itchat  # type: ignore[import-untyped]
    from itchat.components.contact import (  # type: ignore[import-untyped]
        update_local_chatrooms,
        update_local_friends,
    )
    from itchat.components.login import sync_check  # type: ignore[import-untyped]
    from itchat.components.messages import produce_msg  # type: ignore[import-untyped]
    from itchat.storage.templates import User  # type: ignore[import-untyped]

__all__ = ["User", "itchat", "produce_msg", "sync_check", "update_local_chatrooms", "update_local_friends"]

itchat.set_logging(showOnCmd=False)  # what it says goes to our own log
