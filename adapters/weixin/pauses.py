"""How long to wait before trying again. Knows nothing of what failed; seconds everywhere."""

from __future__ import annotations

from dataclasses import dataclass

OFTEN = 3  # refusals in a row, after which the longer pause follows


@dataclass(frozen=True)
class Pauses:
    """All waits of the adapter, so that a test can shorten them."""

    first: float = 1.0  # after the server could not be reached; doubles each time
    longest: float = 60.0
    refused: float = 2.0  # after it answered with an error
    refused_often: float = 30.0
    poll: float = 1.0  # between two looks at a QR code
    code_life: float = 360.0  # a code lives five minutes; the server says so, this is for when it doesn't
    rest: float = 60.0  # after nobody scanned the codes; doubles each time
    longest_rest: float = 900.0
    typing: float = 5.0  # "typing" fades on the phone unless it is repeated


class Doubling:
    """`first`, twice that, and so on up to `longest`."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._next = first

    def next(self) -> float:
        """The pause to make now."""
        pause = self._next
        self._next = min(pause * 2, self._longest)
        return pause

    def reset(self) -> None:
        """It went well: the next pause is the first again."""
        self._next = self._first
