"""One suite of tests for every adapter, ours and others': subclass AdapterContract, give it a FarEnd.

    class TestMyPlatform(AdapterContract):
        @pytest.fixture
        async def far(self, tmp_path):
            async with MyFarEnd(tmp_path) as far:
                yield far

A far end is the platform's side of the wire: it speaks the real protocol on loopback, so that the real
client library runs, and says and sees what people would. Knows no platform; needs pytest.
"""

from __future__ import annotations

from adapters.testing.contract import QUIET, AdapterContract
from adapters.testing.far_end import FarEnd, Shown, TestHost
from adapters.testing.heard import PATIENCE, Heard, NoReplies, running, until

__all__ = [
    "PATIENCE",
    "QUIET",
    "AdapterContract",
    "FarEnd",
    "Heard",
    "NoReplies",
    "Shown",
    "TestHost",
    "running",
    "until",
]
