"""Turns the tokens of one candidate into text to show, as they come.

Knows nothing of models; only whole characters go out, and nothing that may yet become a stop string.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from learner.engine.thinking import CLOSE, OPEN, ThoughtFilter

# What a decoder writes for bytes that are no UTF-8; an unfinished character at the end becomes up to three.
REPLACEMENT = "�"
UNFINISHED = 3

Decode = Callable[[Sequence[int]], str]


class TextStream:
    """One candidate's text: `push` tokens, take what may be shown, `finish` for the rest.

    What `thoughts` drops is neither shown nor part of `text`, and no stop string is looked for in it.
    """

    def __init__(self, decode: Decode, stop: Sequence[str] = (), thoughts: ThoughtFilter | None = None) -> None:
        self._decode, self._thoughts = decode, thoughts
        self._stop = tuple(s for s in stop if s)
        self._longest = max(map(len, self._stop), default=0)
        self._tokens: list[int] = []
        # Tokens before `_read` are settled; decoding starts at `_context`, since some tokenizers
        # write the first token otherwise than the same one later.
        self._context = self._read = 0
        self._settled = ""
        self._filtered = self._thought = 0
        self._shown = 0
        self.text = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Add a token; returns the text that can be shown now."""
        self._tokens.append(token)
        self._decode_rest()
        return self._show(len(self.text) if self.stopped else len(self.text) - self._held_back())

    def finish(self) -> str:
        """The rest of the text; an unfinished character at the end is dropped."""
        if self._thoughts is not None and not self.stopped:
            self.text += self._thoughts.finish()
            self._cut_at_stop()
        return self._show(len(self.text))

    @property
    def reply_from(self) -> int | None:
        """The first token of the reply itself; None where thoughts can't be parted from it between two tokens."""
        thoughts = self._thoughts
        if thoughts is None or not (thoughts.hid or thoughts.stray):
            return 0
        if thoughts.only_thought:
            return len(self._tokens)
        rest = self._decode(self._tokens[self._thought :])
        return self._thought if self.text in rest and OPEN not in rest and CLOSE not in rest else None

    def _decode_rest(self) -> None:
        """Bring `text` up to date, but for an unfinished character at its end."""
        before = self._decode(self._tokens[self._context : self._read])
        new = self._decode(self._tokens[self._context :])[len(before) :]
        whole = new[:-UNFINISHED] + new[-UNFINISHED:].rstrip(REPLACEMENT)
        text = self._settled + whole
        if new and whole == new:
            self._context, self._read, self._settled = self._read, len(self._tokens), text
        self.text = text if self._thoughts is None else self.text + self._without_thoughts(text, self._thoughts)
        self._cut_at_stop()

    def _without_thoughts(self, text: str, thoughts: ThoughtFilter) -> str:
        """What of the newest of `text` may be shown; remembers the tokens that were thought alone."""
        new, self._filtered = text[self._filtered :], max(self._filtered, len(text))
        shown = thoughts.push(new)
        if thoughts.only_thought and self._read == len(self._tokens):  # no character is begun
            self._thought = len(self._tokens)
        return shown

    def _cut_at_stop(self) -> None:
        # A stop string may have begun in text that was held back, never in what was shown.
        found = [at for s in self._stop if (at := self.text.find(s, self._shown)) >= 0]
        if found:
            self.text = self.text[: min(found)]
            self.stopped = True

    def _held_back(self) -> int:
        """Length of the longest end of the text with which a stop string begins."""
        for length in range(min(self._longest - 1, len(self.text)), 0, -1):
            if any(s.startswith(self.text[-length:]) for s in self._stop):
                return length
        return 0

    def _show(self, until: int) -> str:
        new = self.text[self._shown : until]
        self._shown = max(self._shown, until)
        return new
