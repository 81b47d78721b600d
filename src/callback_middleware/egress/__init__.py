"""Where a callback may go: a decision, made without asking anybody.

The URL was typed by a stranger. ``check_url`` decides by its text, early and cheaply; ``check_address`` decides by
what its host resolved to, before a socket is opened. Neither does I/O, and every refusal says what would allow it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final

from callback_middleware.egress.addresses import Address, address_of, carried_by, special_purpose
from callback_middleware.egress.hosts import DEFAULT_PORTS, HIGHEST_PORT, Authority, HttpUrl
from callback_middleware.egress.patterns import HostPatterns, Networks
from callback_middleware.egress.remedies import Change, Objection, refusal
from callback_middleware.errors import ConfigurationError, EgressRefused
from callback_middleware.values import excerpt

__all__ = ["EgressPolicy"]

DEFAULT_SCHEMES: Final = frozenset({"https"})
DEFAULT_EGRESS_PORTS: Final = frozenset({80, 443, 8080, 8443})
LOCALHOST: Final = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
"""What ``localhost``, and every name under it, resolves to without anybody being asked (RFC 6761, 6.3)."""
_COLLECTIONS: Final = (
    *("schemes", "allowed_hosts", "denied_hosts", "allowed_networks", "denied_networks"),
    *("ports", "own_addresses"),
)


@dataclass(frozen=True)
class EgressPolicy:
    """What a callback's URL may be, and which addresses it may lead to.

    By default: ``https``, four ports, and every address that is global unicast and not this machine's own. Another
    address needs two rules: its host in ``allowed_hosts`` *and* its network in ``allowed_networks``, so that neither a
    name that somebody points at the private network nor an address that somebody types gets there. A denial beats
    every rule.

    Attributes:
        schemes: ``https``, ``http`` or both.
        ports: From 1 to 65535; None for any.
        allowed_hosts: Hosts that may be what the defaults refuse: a single-label name, or one inside
            ``allowed_networks``. Each is a name (``receiver``), a name and everything under it (``*.corp.example``
            is everything under it, alone), an address, or a network as ``10.1.0.0/16`` for hosts that are addresses.
            The machine's own hosts file and search domains apply to these names, and to no others.
        denied_hosts: Hosts that are refused; written likewise.
        allowed_networks: Networks that the defaults refuse and that are yet allowed, for ``allowed_hosts``.
        denied_networks: Networks that are refused.
        own_addresses: Addresses of this machine, or networks of them, that are refused though they are public: what
            listens on them may trust whoever comes from here. None leaves it to the dispatcher, which asks the
            operating system; an empty collection refuses none.

    Raises:
        ConfigurationError: At construction, for a scheme, port, host or network that is none.
    """

    schemes: Collection[str] = DEFAULT_SCHEMES
    ports: Collection[int] | None = DEFAULT_EGRESS_PORTS
    allowed_hosts: Collection[str] = field(default=())
    denied_hosts: Collection[str] = field(default=())
    allowed_networks: Collection[str] = field(default=())
    denied_networks: Collection[str] = field(default=())
    own_addresses: Collection[str] | None = None

    def __post_init__(self) -> None:
        # Whatever collection was given: a policy never changes, and can be a key.
        for name in _COLLECTIONS:
            value = getattr(self, name)
            if isinstance(value, str):
                raise ConfigurationError(f"EgressPolicy.{name} is a collection: write ({value!r},)")
            if value is not None:
                object.__setattr__(self, name, frozenset(value))
        _check_schemes(self.schemes)
        _check_ports(self.ports)
        # Read now, so that a mistake is found at start-up and not at the first delivery.
        _ = self._allowed_hosts, self._denied_hosts, self._allowed_networks, self._denied_networks, self._own

    def __hash__(self) -> int:
        # One field tells enough: a process has few policies, and asks what they decided at every request.
        return hash(self.allowed_hosts)

    @classmethod
    def development(cls) -> EgressPolicy:
        """For a developer's own machine: ``http`` too, any port, and loopback by its usual names. Nothing else."""
        loopback = ("127.0.0.0/8", "::1/128")
        return cls(
            schemes=("http", "https"),
            ports=None,
            allowed_hosts=("localhost", "*.localhost", *loopback),
            allowed_networks=loopback,
        )

    def check_url(self, url: str) -> None:
        """Return if the text of ``url`` is allowed. Of a name, nothing is known yet: see :meth:`check_address`.

        Raises:
            EgressRefused: With the rule that refused, and what would allow it.
        """
        self.check_authority(HttpUrl.of(url).authority)

    def check_authority(self, authority: Authority) -> None:
        """:meth:`check_url`, for a URL that is split already."""
        _check_authority(self, authority)

    def check_address(self, address: str | Address, *, host: str | None = None) -> None:
        """Return if a socket to ``address`` may be opened.

        Args:
            address: What ``host`` resolved to.
            host: The URL's host; None when the URL names the address itself.

        Raises:
            EgressRefused: With the rule that refused, and what would allow it.
        """
        _check_address(self, _parsed(address), host)

    def allows_host(self, host: str) -> bool:
        """Whether the operator named this host in ``allowed_hosts``."""
        return bool(self._allowed_hosts.matching(host))

    def _to_authority(self, authority: Authority) -> Iterator[Objection]:
        """What there is against the text of a URL."""
        scheme, host, port = authority.scheme, authority.host, authority.port
        if scheme not in self.schemes:
            yield Objection(f"the scheme {excerpt(scheme)} is not allowed", [Change("schemes", {scheme})])
        if self.ports is not None and port not in self.ports:
            yield Objection(f"the port {port} is not allowed", [Change("ports", {port})])
        if denials := self._denied_hosts.matching(host):
            yield Objection(f"the host {excerpt(host)} is denied", [Change("denied_hosts", drop=denials)])
        if authority.address is not None:
            yield from self._to_address(authority.address, None)
        elif host == "localhost" or host.endswith(".localhost"):
            for address in LOCALHOST:
                yield from self._to_address(address, host)
        elif "." not in host and not self.allows_host(host):
            yield Objection(f"the host {excerpt(host)} is a single label", [Change("allowed_hosts", {host})])

    def _to_address(self, address: Address, host: str | None) -> Iterator[Objection]:
        """What there is against an address, and against those that it carries."""
        name = host if host is not None else str(address)
        for stands_for in (address, *carried_by(address)):
            if denials := self._denied_networks.containing(stands_for):
                yield Objection(f"{stands_for} is denied", [Change("denied_networks", drop=denials)])
            purpose = special_purpose(stands_for)
            if purpose is None and stands_for not in self._own:
                continue
            # A name alone opens no network, and a network alone opens no name.
            if not (self.allows_host(name) and stands_for in self._allowed_networks):
                yield Objection(
                    f"{stands_for} is this machine's own"
                    if purpose is None
                    else f"{stands_for} is not global: {purpose}",
                    [Change("allowed_hosts", {name}), Change("allowed_networks", {str(ip_network(stands_for))})],
                )

    @cached_property
    def _allowed_hosts(self) -> HostPatterns:
        return HostPatterns.of(self.allowed_hosts, "allowed_hosts")

    @cached_property
    def _denied_hosts(self) -> HostPatterns:
        return HostPatterns.of(self.denied_hosts, "denied_hosts")

    @cached_property
    def _allowed_networks(self) -> Networks:
        return Networks.of(self.allowed_networks, "allowed_networks")

    @cached_property
    def _denied_networks(self) -> Networks:
        return Networks.of(self.denied_networks, "denied_networks")

    @cached_property
    def _own(self) -> Networks:
        return Networks.of(self.own_addresses or (), "own_addresses")


def _check_schemes(schemes: Collection[str]) -> None:
    if unknown := sorted(set(schemes) - DEFAULT_PORTS.keys()):
        raise ConfigurationError(f"EgressPolicy.schemes: {unknown[0]!r} is neither 'https' nor 'http'")


def _check_ports(ports: Collection[int] | None) -> None:
    for port in ports or ():
        if not 1 <= port <= HIGHEST_PORT:
            raise ConfigurationError(f"EgressPolicy.ports: {port!r} is not from 1 to {HIGHEST_PORT}")


def _parsed(address: str | Address) -> Address:
    if not isinstance(address, str):
        return address
    try:
        return address_of(address)
    except ValueError:
        raise EgressRefused(f"{excerpt(address)} is no address", "no policy allows it: write an IP address") from None


# One policy, few receivers, many deliveries. A refusal is raised and so never remembered.
@lru_cache(maxsize=4096)
def _check_authority(policy: EgressPolicy, authority: Authority) -> None:
    if objections := list(policy._to_authority(authority)):  # noqa: SLF001 - a method of the policy that can be cached
        raise refusal(policy, objections)


@lru_cache(maxsize=4096)
def _check_address(policy: EgressPolicy, address: Address, host: str | None) -> None:
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise EgressRefused("the address has a zone identifier", "no policy allows it: use one without")
    if objections := list(policy._to_address(address, host)):  # noqa: SLF001 - as above
        raise refusal(policy, objections)
