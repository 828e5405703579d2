"""Addresses: what can be listened on, and what strangers can reach."""

from __future__ import annotations

import ipaddress
import logging
import socket

from engine.errors import OptionInvalid
from serve_app.ingress.keys import KEYS_VARIABLE, ApiKeys

logger = logging.getLogger("ray.serve")


def is_loopback(host: str) -> bool:
    """Tell whether every address that `host` names is of this machine alone."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    addresses = {str(address[0]).partition("%")[0] for *_, address in found}
    return all(ipaddress.ip_address(address).is_loopback for address in addresses)


def check_exposure(host: str | None, keys: ApiKeys, insecure_public: bool) -> None:
    """Refuse to serve strangers: raises `OptionInvalid` where a server that listens on `host`
    (`None` for nowhere) has no keys, and an address that is not loopback."""
    if keys or host is None or is_loopback(host):
        return
    if not insecure_public:
        raise OptionInvalid(
            f"{host} can be reached from other machines and there are no API keys: give "
            f"api_keys_file or the environment variable {KEYS_VARIABLE}, or say insecure_public "
            "(--insecure-public) if a gateway or a firewall stands in front",
            param="host",
        )
    logger.warning("%s is served without API keys: whoever reaches it may use it", host)


def check_port(host: str, port: int) -> None:
    """Raise `OptionInvalid` where nobody can listen: Serve itself would try for ever."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise OptionInvalid(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port",
                param="port",
            ) from None
