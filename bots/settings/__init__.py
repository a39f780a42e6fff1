"""Reads config.toml into frozen, typed settings; a file for each part of it.

Knows nothing of what the settings are used for.
"""

from __future__ import annotations

from bots.settings.base import LOOPBACK, ROOT, SettingsError
from bots.settings.doors import AdapterSettings, ApiSettings, ConsoleSettings, WebSettings
from bots.settings.learning import DuelSettings, LearnerSettings, PersonalSettings, RecipeSettings, SynthesisSettings
from bots.settings.model import ModelSettings, RemoteModelSettings
from bots.settings.paths import resolve_model
from bots.settings.reading import load, parse
from bots.settings.talking import (
    BotSettings,
    GroupSettings,
    LimitSettings,
    OfferSettings,
    OtherPersonaSettings,
    PersonaSettings,
    RecallSettings,
    SamplingSettings,
)
from bots.settings.whole import Settings

__all__ = [
    "LOOPBACK",
    "ROOT",
    "AdapterSettings",
    "ApiSettings",
    "BotSettings",
    "ConsoleSettings",
    "DuelSettings",
    "GroupSettings",
    "LearnerSettings",
    "LimitSettings",
    "ModelSettings",
    "OfferSettings",
    "OtherPersonaSettings",
    "PersonaSettings",
    "PersonalSettings",
    "RecallSettings",
    "RecipeSettings",
    "RemoteModelSettings",
    "SamplingSettings",
    "Settings",
    "SettingsError",
    "SynthesisSettings",
    "WebSettings",
    "load",
    "parse",
    "resolve_model",
]
