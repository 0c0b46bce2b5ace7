"""A fetcher for public addresses only, so that the service does not open a way into its own network."""

from __future__ import annotations

import ipaddress

from edge_ocr.errors import InputError
from edge_ocr.fetch.fetcher import DEFAULT_PORTS, Fetcher
from edge_ocr.serving.settings import ServeSettings

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_EXAMPLES = ipaddress.ip_network("3fff::/20")

_NOT_PUBLIC = (
    # Protocol assignments (RFC 6890), which include Oracle Cloud's metadata; older Pythons call most of them public.
    ipaddress.ip_network("192.0.0.0/24"),
    # Azure's host agent, whose address is formally public.
    ipaddress.ip_network("168.63.129.16/32"),
)


def create_fetcher(settings: ServeSettings) -> Fetcher:
    """Return a fetcher for the addresses and ports that `settings` allow, also after redirects.

    It connects to the very address that was checked, so a name cannot resolve to another one later. The environment's
    proxies are used only if private addresses are allowed.

    Its `open` raises InputError for an address or port that is not allowed.
    """
    ports = set(DEFAULT_PORTS.values()).union(settings.allow_ports or ())
    listed = ", ".join(map(str, sorted(ports)))

    def check_port(host: str, port: int) -> None:
        if port not in ports:
            raise InputError(
                f"port {port} of {host} is not allowed: expected one of {listed}",
                f"serve with --allow-ports {port}",
            )

    def check_address(host: str, address: str) -> None:
        if not is_public(address):
            raise InputError(
                # The same message for an unknown name, or it would reveal which internal names exist.
                f"the address of {host} is either not public or unknown",
                "send the picture itself, or serve with --allow-private-urls",
            )

    if not settings.allow_private_urls:
        return Fetcher(check_port, check_address)
    if settings.allow_ports is None:
        return Fetcher(use_proxies=True)
    return Fetcher(check_port, use_proxies=True)


def is_public(address: str | int) -> bool:
    """Return whether an IP address is public, also if IPv6 wraps an IPv4 address; False if it is invalid."""
    try:
        ip = ipaddress.ip_address(str(address).partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.teredo is not None or ip.is_site_local:
            return False
        wrapped = ip.ipv4_mapped or ip.sixtofour
        # RFC 6052: translators forward these to the IPv4 address in the last four bytes.
        if ip in ipaddress.ip_network("64:ff9b::/96"):
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
        # Only these are assigned. Others include more ways to write IPv4 (RFC 4291 2.5.5.1, 2765, 8215), which Python
        # calls public, like the examples of RFC 9637.
        if ip not in _GLOBAL_UNICAST or ip in _EXAMPLES:
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_PUBLIC)
