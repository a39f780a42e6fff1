"""What can go wrong while a model is asked.

    SynthesisError      the run ends; its text says what to do
    ├─ EndpointRefused  no further call can succeed until something is changed: key, address, model, account
    ├─ EndpointDown     the endpoint can't be reached, or only fails
    ├─ BudgetReached    the next call might cost more than is left
    ├─ NothingUsable    the model's answers can't be used, one after another
    ├─ Interrupted      somebody pressed Ctrl-C
    ├─ PromptError      a prompt file can't be used
    └─ JournalError     the journal is in use, or not ours
    ItemFailed          one request failed; the others go on

Knows nothing of why.
"""

from __future__ import annotations


class SynthesisError(Exception):
    """The run can't go on. What was answered so far is in the journal."""


class EndpointRefused(SynthesisError):
    """Every call would be refused."""


class EndpointDown(SynthesisError):
    """No answer comes, however often it is asked."""


class BudgetReached(SynthesisError):
    """The money that was allowed is spent."""


class NothingUsable(SynthesisError):
    """So many answers in a row were rejected that going on would waste money."""


class Interrupted(SynthesisError):
    """Stopped by a person."""


class PromptError(SynthesisError):
    """A prompt file is missing, empty, or names something that isn't there."""


class JournalError(SynthesisError):
    """Another run holds the journal, or the file is something else."""


class ItemFailed(Exception):
    """One request brought no text. `reason` is a word that is counted; `lasting`: asking again would bring the same."""

    def __init__(self, reason: str, detail: str, lasting: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.lasting = lasting
