"""Explains failed downloads in one line without credentials."""

from __future__ import annotations

import re
import socket
import urllib.error
from urllib.parse import urlsplit

_MAX_REASON = 300

# A password may contain slashes: after a colon, everything up to the last @ may belong to it.
_USER = re.compile(r"(?<=://)(?:[^:\s'\"`]{0,500}:[^\s'\"`]{0,2000}|[^/\s'\"`]+)@")
_URL_HOST = re.compile(r"https?://(?:\*+@)?(\[[^\]\s]+\]|[^/\s:`'\")]+)")

# Causes as uv 0.9 to 0.13 words them, and their meaning; the first match counts.
_UV_REASONS = (
    (r"network was disabled|offline mode", "uv is offline (UV_OFFLINE), and its cache does not have it"),
    (r"os error 28|No space left on device", "disk full"),
    (r"credentials \((401 [\w ]+)\)|returned a (403 [\w ]+?) error", "{host} answered {found}: check the credentials"),
    (r"HTTP status \w+ error \(([^)]+)\)", "{host} answered {found}"),
    (r"dns error|failed to lookup address", "no network: DNS of {host} failed"),
    (r"Connection refused", "{host} refused the connection"),
    (r"timed out", "{host} did not answer in time"),
    (r"invalid peer certificate: (\w+)", "the certificate of {host} is not trusted ({found})"),
    (r"not found in the package registry", "the package index does not have it"),
    (r"there is no version of", "the package index does not have this version"),
)

_UV_MARKS = re.compile(r"^[\s×╰─▶│├]*(?:error:|cause:|Caused by:)?\s*")


class UvError(Exception):
    """uv's full output. It is the `__cause__` of the error that sums it up, so --debug shows it."""


def mask_urls(text: str) -> str:
    """Replace user and password in each URL of a text with asterisks."""
    return _USER.sub("****@", text)


def sum_up_uv(output: str) -> str:
    """Return one line that says why uv failed; "" if there is no output."""
    text = mask_urls(output)
    # uv wraps lines at the terminal's width.
    flat = " ".join(text.split())
    hosts = _URL_HOST.findall(flat)
    for pattern, meaning in _UV_REASONS:
        match = re.search(pattern, flat)
        if match:
            found = next((group for group in match.groups() if group), "")
            return meaning.format(host=hosts[-1] if hosts else "the package index", found=found)
    lines = [line for line in text.splitlines() if line.strip()]
    start = next((index for index, line in enumerate(lines) if line.lstrip().startswith(("error:", "×"))), 0)
    told = [_UV_MARKS.sub("", line) for line in lines[start:]]
    reason = ": ".join(dict.fromkeys(line.rstrip(" :") for line in told[:1] + told[-1:]))
    return reason if len(reason) <= _MAX_REASON else reason[:_MAX_REASON] + "…"


def explain_download(url: str, error: Exception) -> str:
    """Return one line that says why a download from `url` failed."""
    status = f"HTTP {error.code} " if isinstance(error, urllib.error.HTTPError) else ""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, socket.gaierror):
        return f"no network: DNS of {urlsplit(url).hostname} failed"
    return status + " ".join(mask_urls(str(reason)).split())
