"""URLs that lead to public addresses only: a service must not be a way into the network that it stands in."""

from __future__ import annotations

import ipaddress

from edge_ocr.errors import InputError
from edge_ocr.fetch.fetcher import DEFAULT_PORTS, Fetcher
from edge_ocr.serving.settings import ServeSettings

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_EXAMPLES = ipaddress.ip_network("3fff::/20")

_NOT_PUBLIC = (
    # Protocol assignments (RFC 6890), among them Oracle Cloud's metadata; older Pythons take most of them for public.
    ipaddress.ip_network("192.0.0.0/24"),
    # Azure's agent on the host: a public address by its number only.
    ipaddress.ip_network("168.63.129.16/32"),
)


def create_fetcher(settings: ServeSettings) -> Fetcher:
    """Return what opens http(s) URLs, redirects included, at the addresses and ports that `settings` allow.

    The address that is checked is the one connected to: a name cannot lead elsewhere the second time. Proxies are asked
    where private addresses are allowed.

    Opening raises InputError for an address or port that is not allowed.
    """
    ports = set(DEFAULT_PORTS.values()).union(settings.allow_ports or ())
    listed = ", ".join(map(str, sorted(ports)))

    def check_port(host: str, port: int) -> None:
        if port not in ports:
            raise InputError(
                f"port {port} of {host} is not fetched from: expected one of {listed}",
                f"serve with --allow-ports {port}",
            )

    def check_address(host: str, address: str) -> None:
        if not is_public(address):
            raise InputError(
                # The same for a name that does not exist, or it would tell which ones do inside.
                f"the address of {host} is not public or not known",
                "send the picture itself, or serve with --allow-private-urls",
            )

    if not settings.allow_private_urls:
        return Fetcher(check_port, check_address)
    if settings.allow_ports is None:
        return Fetcher(use_proxies=True)
    return Fetcher(check_port, use_proxies=True)


def is_public(address: str | int) -> bool:
    """Whether an IP address, in its text form, is one of the internet's, also where IPv6 wraps IPv4.

    An address that cannot be understood is not.
    """
    try:
        ip = ipaddress.ip_address(str(address).partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.teredo is not None or ip.is_site_local:
            return False
        wrapped = ip.ipv4_mapped or ip.sixtofour
        # RFC 6052: translators hand these on to the IPv4 address in the last four bytes.
        if ip in ipaddress.ip_network("64:ff9b::/96"):
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
        # Only these are handed out; among the others are more ways to write IPv4 (RFC 4291 2.5.5.1, 2765, 8215), which
        # Python takes for public, as it does with the examples of RFC 9637.
        if ip not in _GLOBAL_UNICAST or ip in _EXAMPLES:
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_PUBLIC)
