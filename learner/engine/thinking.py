"""Keeps a reasoning model's thoughts out of its reply while it streams: `<think>…</think>` is dropped.

Knows nothing of tokens or of who reads. A template may open the thought itself, so that the reply begins inside it
(DeepSeek-R1's does).
"""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"
TAG_TOKENS = 16  # of a prompt's end: more than an opening tag and the line break after it take


class ThoughtFilter:
    """Takes text in any pieces and gives what may be shown; `push` until the end, then `finish`.

    Dropped are thoughts, white space before the first and after each, and a closing tag that nothing opened. A tag may
    be cut anywhere between pieces; what may yet become one is held back.
    """

    def __init__(self, begun: bool = False) -> None:
        """`begun`: the prompt has opened the thought already."""
        self.hid = begun  # whether there was a thought
        self.stray = False  # whether one ended that had not begun: what was shown before it may have been a thought
        self._inside = self._trims = begun
        self._leads, self._spoke = not begun, False
        self._held = ""

    @property
    def only_thought(self) -> bool:
        """Whether all text until now was thought, and none of it is held back."""
        return self.hid and not self._spoke and (self._inside or not self._held)

    def push(self, text: str) -> str:
        """Add text; returns what may be shown now."""
        self._held += text
        shown = ""
        more = True
        while more and (self._leave() if self._inside else self._enter()):
            part, more = self._until_tag()
            shown += part
        self._spoke = self._spoke or bool(shown)
        return shown

    def finish(self) -> str:
        """The rest of what may be shown; a thought that never ended is none of it."""
        rest, self._held = "" if self._inside else self._held, ""
        self._spoke = self._spoke or bool(rest)
        return rest

    def _leave(self) -> bool:
        """Drop the thought up to its end; whether that has come."""
        at = self._held.find(CLOSE)
        if at < 0:
            self._held = self._held[len(self._held) - _beginning(self._held, CLOSE) :]
            return False
        self._held = self._held[at + len(CLOSE) :]
        self._inside, self._trims = False, True
        return self._enter()

    def _enter(self) -> bool:
        """Drop the white space that goes with a thought; whether anything is left that is not yet undecided."""
        bare = self._held.lstrip()
        if self._trims:
            self._held = bare
            self._trims = not bare
        elif self._leads and OPEN.startswith(bare[: len(OPEN)]):
            if len(bare) < len(OPEN):
                return False
            self._held = bare
        self._leads = False
        return bool(self._held)

    def _until_tag(self) -> tuple[str, bool]:
        """Take what stands before the next tag, and the tag, if there is one; else all that can't become one."""
        found = [(at, tag) for tag in (OPEN, CLOSE) if (at := self._held.find(tag)) >= 0]
        if not found:
            kept = max(_beginning(self._held, OPEN), _beginning(self._held, CLOSE))
            shown, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
            return shown, False
        at, tag = min(found)
        shown, self._held = self._held[:at], self._held[at + len(tag) :]
        if tag == OPEN:
            self._inside = self.hid = True
        else:
            self.stray = self._trims = True
        return shown, True


def without_thoughts(text: str, begun: bool = False) -> str:
    """`text` as it may be shown."""
    thoughts = ThoughtFilter(begun)
    return thoughts.push(text) + thoughts.finish()


def _beginning(text: str, tag: str) -> int:
    """Length of the longest end of `text` with which `tag` begins, but for the whole tag."""
    return next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-n:])), 0)
