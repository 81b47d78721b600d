"""Hosts and networks as an operator writes them, read once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_network

from callback_middleware.egress.addresses import Address, Network, address_of
from callback_middleware.egress.hosts import HttpUrl
from callback_middleware.errors import ConfigurationError, EgressRefused
from callback_middleware.values import excerpt

__all__ = ["HostPatterns", "Networks"]


@dataclass(frozen=True, slots=True)
class Networks:
    """What a collection of networks and single addresses means."""

    by_text: dict[str, Network]

    @classmethod
    def of(cls, texts: Iterable[str], field_name: str) -> Networks:
        """Raises :class:`~callback_middleware.errors.ConfigurationError` for a text that is neither."""
        try:
            return cls({text: ip_network(text) for text in texts})
        except ValueError as error:
            raise ConfigurationError(f"EgressPolicy.{field_name}: {error}") from None

    def containing(self, address: Address) -> Collection[str]:
        """Those that an address lies in, as they were written."""
        return [
            text for text, network in self.by_text.items() if address.version == network.version and address in network
        ]

    def __contains__(self, address: Address) -> bool:
        return any(address.version == network.version and address in network for network in self.by_text.values())


@dataclass(frozen=True, slots=True)
class HostPatterns:
    """What a collection of host patterns means."""

    by_name: dict[str, list[str]]
    by_suffix: dict[str, list[str]]
    networks: Networks

    @classmethod
    def of(cls, patterns: Iterable[str], field_name: str) -> HostPatterns:
        """Raises :class:`~callback_middleware.errors.ConfigurationError` for a text that is no pattern."""
        by_name, by_suffix = dict[str, list[str]](), dict[str, list[str]]()
        networks = dict[str, Network]()
        for pattern in patterns:
            try:
                networks[pattern] = ip_network(pattern)
            except ValueError:
                name = _host_name(pattern.removeprefix("*."), field_name)
                if pattern.startswith("*."):
                    by_suffix.setdefault("." + name, []).append(pattern)
                else:
                    by_name.setdefault(name, []).append(pattern)
        return cls(by_name, by_suffix, Networks(networks))

    def matching(self, host: str) -> Collection[str]:
        """Those that a host matches, as they were written."""
        found = [*self.by_name.get(host, ())]
        for suffix, patterns in self.by_suffix.items():
            if host.endswith(suffix):
                found += patterns
        if self.networks.by_text:
            with suppress(ValueError):  # a name
                found += self.networks.containing(address_of(host))
        return found


def _host_name(text: str, field_name: str) -> str:
    """A pattern's name as URLs spell it, so that the two compare equal."""
    try:
        url = HttpUrl.of(f"https://{text}")
    except EgressRefused as error:
        raise ConfigurationError(f"EgressPolicy.{field_name}: {excerpt(text)} is no host: {error.rule}") from None
    if url.target != b"/" or url.authority.text != url.authority.host:
        raise ConfigurationError(f"EgressPolicy.{field_name}: {excerpt(text)} is more than a host")
    return url.authority.host
