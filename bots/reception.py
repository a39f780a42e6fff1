"""What reaches a bot's inbox: what is not for the bot, or about nothing that it knows, is not even stored.

Knows nothing of who may talk, or of what becomes of a message.
"""

from __future__ import annotations

from adapters.base import Edited, Inbound, OwnerWrote, PlatformAdapter, Recalled, Receipt, Receive
from bots.database import Database
from bots.hearing import Hearing
from bots.inbox import Inbox, Unheard
from bots.settings import BotSettings
from learner.store.rows import Place
from learner.store.store import Store


def reception(bot: BotSettings, adapter: PlatformAdapter, inbox: Inbox, store: Store, database: Database) -> Receive:
    """What `adapter` calls with all that is said to `bot` there."""
    names = (bot.persona.name, bot.name, *(persona.name for persona in bot.personas))
    hearing = Hearing(names if bot.groups.called_by_name else ())

    async def concerns(place: Place, inbound: Inbound) -> bool:
        """Whether it is about something that the bot knows: others' edits and the owner's own chats are not kept."""
        if isinstance(inbound, Edited | Recalled):
            return await database(store.knows, place, inbound.message)
        if isinstance(inbound, OwnerWrote):
            return await database(store.takes_part, place)
        return True

    async def receive(inbound: Inbound) -> Receipt:
        heard = hearing.of(inbound)
        if heard is None or not await concerns(Place(bot.name, adapter.name, heard.chat), heard):
            return Unheard()
        return await inbox.receive(bot.mind, bot.name, adapter.name, heard)

    return receive
