"""Announces the Wyoming listener in the local network over zeroconf (DNS-SD), if the extra is installed."""

from __future__ import annotations

import logging
import socket
import threading
from typing import TYPE_CHECKING

from agent.server.settings import LOOPBACK_HOSTS

if TYPE_CHECKING:
    from zeroconf import Zeroconf

log = logging.getLogger(__name__)

TYPE = "_wyoming._tcp.local."
"""The service type that Home Assistant looks for (``components/wyoming/manifest.json``)."""

_WITHDRAW_SECONDS = 1.0


class Announcement:
    """Announces one port until ``withdraw``. Thread-safe.

    A separate thread registers the name: zeroconf waits one second to find out whether another device uses this name.

    Args:
        host: Address of the listener. ``0.0.0.0`` announces the IPv4 addresses of all interfaces, ``::`` the IPv6
            addresses, because a listener on ``::`` accepts no IPv4.
        port: Port of the listener.
        name: Name of this device.
    """

    def __init__(self, host: str, port: int, name: str) -> None:
        self._host, self._port, self._name = host, port, name
        self._lock = threading.Lock()
        self._zeroconf: Zeroconf | None = None
        self._is_withdrawn = False
        threading.Thread(target=self._register, name="zeroconf register", daemon=True).start()

    def withdraw(self) -> None:
        """Announce the end of the service and wait at most one second. Idempotent."""
        with self._lock:
            self._is_withdrawn = True
        closing = threading.Thread(target=self._close, name="zeroconf close", daemon=True)
        closing.start()
        closing.join(_WITHDRAW_SECONDS)

    def _close(self) -> None:
        with self._lock:
            zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is not None:
            zeroconf.close()  # withdraws the services as well

    def _register(self) -> None:
        from zeroconf import Error, InterfaceChoice, ServiceInfo, Zeroconf

        is_any = self._host in ("0.0.0.0", "::")
        try:
            addresses = _interface_addresses(is_ipv6=self._host == "::") if is_any else [self._host]
            info = ServiceInfo(
                TYPE,
                f"{self._name}.{TYPE}",
                port=self._port,
                parsed_addresses=addresses,
                server=f"{self._name}.local.",
            )
            zeroconf = Zeroconf(interfaces=InterfaceChoice.All if is_any else [self._host])
            with self._lock:
                if not self._is_withdrawn:
                    self._zeroconf = zeroconf
            if self._is_withdrawn:
                zeroconf.close()
                return
            zeroconf.register_service(info, allow_name_change=True)
        except (Error, OSError) as error:
            log.warning("wyoming server: not announced in the network, error=%s", error or type(error).__name__)
            return
        log.info("wyoming server: announced in the network, name=%s, port=%d", info.name, self._port)


def _interface_addresses(*, is_ipv6: bool) -> list[str]:
    """Return the addresses of all interfaces, without those of the loopback interface."""
    import ifaddr  # a dependency of zeroconf

    found = [each for adapter in ifaddr.get_adapters() for each in adapter.ips if each.is_IPv6 == is_ipv6]
    addresses = [each.ip if isinstance(each.ip, str) else each.ip[0] for each in found]
    return [each for each in addresses if each not in LOOPBACK_HOSTS]


def announce(host: str, port: int) -> Announcement | None:
    """Announce a listener in the local network.

    Returns:
        The announcement; ``None`` if ``host`` is a loopback address, or if the extra ``zeroconf`` is not installed.
    """
    import importlib.util

    if host in LOOPBACK_HOSTS or host.startswith("127."):
        return None
    if importlib.util.find_spec("zeroconf") is None:
        log.info("wyoming server: not announced in the network, install the extra zeroconf for that")
        return None
    return Announcement(host, port, socket.gethostname().partition(".")[0] or "voice-agent")
