"""Which chats have a LoRA of their own, as config.toml says, and whose words teach which LoRA. Pure.

Knows nothing of LoRAs, nights or the store.
"""

from __future__ import annotations

from bots.settings import PersonalSettings, Settings
from learner.scopes import Scope
from learner.store.rows import Chats


def scopes_of(settings: Settings, mind: str) -> list[str]:
    """The scopes of a mind whose LoRAs config.toml asks for: the common one first."""
    return [mind, *(str(Scope(mind, one.name)) for one in settings.learner.personal)]


def scope_in(settings: Settings, mind: str, chat: str) -> str:
    """The scope of a mind that a chat ("platform:chat id") belongs to: its own one, or the common one."""
    found = _named(settings, chat)
    return str(Scope(mind, found.name if found is not None else None))


def teaches_all(settings: Settings, chat: str) -> bool:
    """Whether what is said in a chat ("platform:chat id") concerns the common LoRA."""
    found = _named(settings, chat)
    return found is None or found.shared


def heard(settings: Settings, scope: str) -> Chats:
    """The chats whose records teach the LoRA of a scope."""
    name = Scope.read(scope).name
    every = settings.learner.personal
    if name is None:
        return Chats(frozenset(chat for one in every if not one.shared for chat in one.chats))
    return Chats(frozenset(chat for one in every if one.name == name for chat in one.chats), but=False)


class NotPersonal(Exception):
    """No chat of that id or name has a LoRA of its own."""

    def __init__(self, asked: str, settings: Settings) -> None:
        names = ", ".join(one.name for one in settings.learner.personal) or "none"
        super().__init__(f"{asked} has no LoRA of its own; [[learner.personal]] in config.toml names: {names}")


def scope_called(settings: Settings, mind: str, asked: str) -> str:
    """The scope of a mind's chats that are called so, or to which the chat "platform:chat id" belongs.

    Raises NotPersonal.
    """
    found = next((one for one in settings.learner.personal if asked == one.name or asked in one.chats), None)
    if found is None:
        raise NotPersonal(asked, settings)
    return str(Scope(mind, found.name))


def _named(settings: Settings, chat: str) -> PersonalSettings | None:
    return next((one for one in settings.learner.personal if chat in one.chats), None)
