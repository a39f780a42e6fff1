"""Says which addresses may be called: the configured one, and those that its server may send us on to.

Knows nothing of what is said there. A server that could name any host could make us call this machine's own.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII)


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine."""
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def base_address(url: str) -> str:
    """`url` as calls are appended to it. Raises ValueError where it can't be one."""
    parts = _parts(url)
    if parts is None or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is no address of a server; write it like https://ilinkai.weixin.qq.com")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise ValueError(f"{url!r} would send the login unencrypted; use https")
    return url.strip().rstrip("/")


def trusted(base: str, named: str) -> str | None:
    """The address of `named`, a host or an address that the server at `base` named; None where it isn't trusted.

    Trusted are https hosts under the domain of `base`, and, where `base` is this machine, this machine.
    """
    home = urlsplit(base)
    parts = _parts(named if "://" in named else f"{home.scheme}://{named}")
    if parts is None or parts.query or parts.fragment:
        return None
    host, home_host = parts.hostname or "", home.hostname or ""
    if is_loopback(home_host):
        return parts.geturl().rstrip("/") if is_loopback(host) else None
    if parts.scheme != "https" or parts.port not in (None, 443) or _domain(host) != _domain(home_host):
        return None
    return parts.geturl().rstrip("/")


def _parts(url: str) -> SplitResult | None:
    """`url` in its parts, None where anything about it is odd."""
    try:
        parts = urlsplit(url.strip())
        host, _ = (parts.hostname or ""), parts.port
    except ValueError:
        return None
    plain = _NAME.fullmatch(host) is not None or _address(host) is not None
    odd = parts.username is not None or parts.password is not None or "\\" in url
    return parts if plain and not odd and parts.scheme in ("http", "https") else None


def _domain(host: str) -> str:
    """What one owner registered: `qq.com` of `ilinkai.weixin.qq.com`, `example.com.cn` of `a.example.com.cn`."""
    labels = host.split(".")
    if _address(host) is not None or len(labels) < 2:
        return host
    country = len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return ".".join(labels[-3:] if country else labels[-2:])


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
