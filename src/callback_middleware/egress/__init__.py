"""Where a callback may go: a decision, made without asking anybody.

The URL was typed by a stranger. ``check_url`` decides by its text, early and cheaply; ``check_address`` decides by
what its host resolved to, before a socket is opened. Neither does I/O, and every refusal says what would allow it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from ipaddress import IPv6Address, ip_network
from typing import Final

from callback_middleware.egress.addresses import Address, Network, address_of, carried_by, special_purpose
from callback_middleware.egress.hosts import DEFAULT_PORTS, HIGHEST_PORT, Authority, HttpUrl
from callback_middleware.errors import ConfigurationError, EgressRefused
from callback_middleware.values import excerpt

__all__ = ["EgressPolicy"]

DEFAULT_SCHEMES: Final = frozenset({"https"})
DEFAULT_EGRESS_PORTS: Final = frozenset({80, 443, 8080, 8443})


@dataclass(frozen=True)
class EgressPolicy:
    """What a callback's URL may be, and which addresses it may lead to.

    By default: ``https``, four ports, and every address that is global unicast. An address that is not needs two
    rules: its host in ``allowed_hosts`` *and* its network in ``allowed_networks``, so that neither a name that
    somebody points at the private network nor an address that somebody types gets there. A denial beats every rule.

    Attributes:
        schemes: ``https``, ``http`` or both.
        ports: From 1 to 65535; None for any.
        allowed_hosts: Hosts that may be what the defaults refuse: a single-label name, or one inside
            ``allowed_networks``. Each is a name (``receiver``), a name and everything under it (``*.corp.example``
            is everything under it, alone), an address, or a network as ``10.1.0.0/16`` for hosts that are addresses.
            The machine's own hosts file and search domains apply to these names, and to no others.
        denied_hosts: Hosts that are refused; written likewise.
        allowed_networks: Networks that are not global and yet allowed, for ``allowed_hosts``.
        denied_networks: Networks that are refused.

    Raises:
        ConfigurationError: At construction, for a scheme, port, host or network that is none.
    """

    schemes: Collection[str] = DEFAULT_SCHEMES
    ports: Collection[int] | None = DEFAULT_EGRESS_PORTS
    allowed_hosts: Collection[str] = field(default=())
    denied_hosts: Collection[str] = field(default=())
    allowed_networks: Collection[str] = field(default=())
    denied_networks: Collection[str] = field(default=())

    def __post_init__(self) -> None:
        # Whatever collection was given: a policy never changes, and can be a key.
        for name in ("schemes", "allowed_hosts", "denied_hosts", "allowed_networks", "denied_networks"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise ConfigurationError(f"EgressPolicy.{name} is a collection: write ({value!r},)")
            object.__setattr__(self, name, frozenset(value))
        if self.ports is not None:
            object.__setattr__(self, "ports", frozenset(self.ports))
        _check_schemes(self.schemes)
        _check_ports(self.ports)
        # Read now, so that a mistake is found at start-up and not at the first delivery.
        _ = self._allowed_hosts, self._denied_hosts, self._allowed_networks, self._denied_networks

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
        return self._allowed_hosts.matches(host)

    @cached_property
    def _allowed_hosts(self) -> _Hosts:
        return _Hosts.of(self.allowed_hosts, "allowed_hosts")

    @cached_property
    def _denied_hosts(self) -> _Hosts:
        return _Hosts.of(self.denied_hosts, "denied_hosts")

    @cached_property
    def _allowed_networks(self) -> tuple[Network, ...]:
        return _networks(self.allowed_networks, "allowed_networks")

    @cached_property
    def _denied_networks(self) -> tuple[Network, ...]:
        return _networks(self.denied_networks, "denied_networks")


@dataclass(frozen=True, slots=True)
class _Hosts:
    """What a collection of host patterns means."""

    names: frozenset[str]
    suffixes: tuple[str, ...]
    networks: tuple[Network, ...]

    @classmethod
    def of(cls, patterns: Iterable[str], field_name: str) -> _Hosts:
        names, suffixes, networks = set[str](), list[str](), list[Network]()
        for pattern in patterns:
            try:
                networks.append(ip_network(pattern))
            except ValueError:
                name = _host_name(pattern.removeprefix("*."), field_name)
                if pattern.startswith("*."):
                    suffixes.append("." + name)
                else:
                    names.add(name)
        return cls(frozenset(names), tuple(suffixes), tuple(networks))

    def matches(self, host: str) -> bool:
        if host in self.names or (self.suffixes and host.endswith(self.suffixes)):
            return True
        if not self.networks:
            return False
        try:
            return _within(address_of(host), self.networks)
        except ValueError:
            return False


def _host_name(text: str, field_name: str) -> str:
    """A pattern's name as URLs spell it, so that the two compare equal."""
    try:
        url = HttpUrl.of(f"https://{text}")
    except EgressRefused as error:
        raise ConfigurationError(f"EgressPolicy.{field_name}: {excerpt(text)} is no host: {error.rule}") from None
    if url.target != b"/" or url.authority.text != url.authority.host:
        raise ConfigurationError(f"EgressPolicy.{field_name}: {excerpt(text)} is more than a host")
    return url.authority.host


def _networks(texts: Iterable[str], field_name: str) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(text) for text in sorted(texts))
    except ValueError as error:
        raise ConfigurationError(f"EgressPolicy.{field_name}: {error}") from None


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
    scheme, host, port = authority.scheme, authority.host, authority.port
    if scheme not in policy.schemes:
        allowed = tuple(sorted({*policy.schemes, scheme} & DEFAULT_PORTS.keys()))
        raise EgressRefused(f"the scheme {excerpt(scheme)} is not allowed", f"EgressPolicy(schemes={allowed!r})")
    if policy.ports is not None and port not in policy.ports:
        ports = tuple(sorted({*policy.ports, port}))
        raise EgressRefused(f"the port {port} is not allowed", f"EgressPolicy(ports={ports!r})")
    if policy._denied_hosts.matches(host):  # noqa: SLF001 - the policy's own rules, in a function that can be cached
        raise EgressRefused(f"the host {excerpt(host)} is denied", "take it out of EgressPolicy(denied_hosts=…)")
    if authority.address is not None:
        _check_address(policy, authority.address, None)
    elif "." not in host and not policy.allows_host(host):
        raise EgressRefused(
            f"the host {excerpt(host)} is a single label",
            f"EgressPolicy(allowed_hosts=({host!r},), allowed_networks=…)",
        )


@lru_cache(maxsize=4096)
def _check_address(policy: EgressPolicy, address: Address, host: str | None) -> None:
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise EgressRefused("the address has a zone identifier", "no policy allows it: use one without")
    carried = carried_by(address)
    for stands_for in (address,) if carried is None else (address, carried):
        if _within(stands_for, policy._denied_networks):  # noqa: SLF001 - as above
            raise EgressRefused(f"{stands_for} is denied", "take its network out of EgressPolicy(denied_networks=…)")
        purpose = special_purpose(stands_for)
        if purpose is None:
            continue
        name = host if host is not None else str(address)
        # A name alone opens no network, and a network alone opens no name.
        if not (policy.allows_host(name) and _within(stands_for, policy._allowed_networks)):  # noqa: SLF001 - as above
            raise EgressRefused(
                f"{stands_for} is not global: {purpose}",
                f"EgressPolicy(allowed_hosts=({name!r},), allowed_networks=('{ip_network(stands_for)}',))",
            )


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
