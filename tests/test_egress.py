"""Where a callback may go."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callback_middleware.egress import EgressPolicy
from callback_middleware.egress.registries import BLOCKS, Block
from callback_middleware.errors import ConfigurationError, EgressRefused

METADATA = {
    "AWS, Google, Azure, DigitalOcean, Hetzner, Oracle, OpenStack": "169.254.169.254",
    "AWS, by IPv6": "fd00:ec2::254",
    "AWS, containers": "169.254.170.2",
    "AWS, pods": "169.254.170.23",
    "AWS, pods by IPv6": "fd00:ec2::23",
    "AWS, names": "169.254.169.253",
    "Google, by IPv6": "fd20:ce::254",
    "Azure, host agent": "168.63.129.16",
    "Alibaba": "100.100.100.200",
    "Oracle, classic": "192.0.0.192",
    "Tencent": "169.254.0.23",
    "Scaleway": "169.254.42.42",
    "Scaleway, by IPv6": "fd00:42::42",
    "OpenStack, by IPv6": "fe80::a9fe:a9fe",
}
HOSTILE = [str(ip_network(block.network)[-1 if block.network == "::/0" else 0]) for block in BLOCKS if block.refused]
HOSTILE += ["127.255.255.254", "10.255.255.255", *METADATA.values()]
HOSTILE += ["64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::168.63.129.16", "4000::1", "2640::1", "3ffe::1"]
HOSTILE += ["64:ff9b:1::1.1.1.1", "2002:7f00:1::", "2001:0:4136:e378::80ff:fefe", "2606:4700::5efe:192.168.0.1"]
HOSTILE += ["::ffff:1.1.1.1", "::1.1.1.1", "fec0::1", "ff02::1", "2606:4700::1%eth0", "not an address", ""]


class TestByDefault:
    @pytest.mark.parametrize(
        "url", ["https://receiver.example/a?b=c", "https://1.1.1.1:8443/", "https://[2606:4700::1]/"]
    )
    def test_public_https_is_allowed(self, url: str) -> None:
        EgressPolicy().check_url(url)

    @pytest.mark.parametrize(
        ("url", "rule", "how"),
        [
            ("http://a.example/", "the scheme 'http' is not allowed", "EgressPolicy(schemes=('http', 'https'))"),
            ("https://a.example:22/", "the port 22 is not allowed", "EgressPolicy(ports=(22, 80, 443, 8080, 8443))"),
            (
                "https://localhost/",
                "127.0.0.1 is not global: loopback",
                "EgressPolicy(allowed_hosts=('localhost',), allowed_networks=('127.0.0.1/32', '::1/128'))",
            ),
            (
                "https://intranet/",
                "the host 'intranet' is a single label",
                "EgressPolicy(allowed_hosts=('intranet',))",
            ),
            (
                "https://10.0.0.1/",
                "10.0.0.1 is not global: private use",
                "EgressPolicy(allowed_hosts=('10.0.0.1',), allowed_networks=('10.0.0.1/32',))",
            ),
            (
                "https://[::1]/",
                "::1 is not global: loopback",
                "EgressPolicy(allowed_hosts=('::1',), allowed_networks=('::1/128',))",
            ),
        ],
    )
    def test_a_refusal_says_which_rule_and_what_would_allow_it(self, url: str, rule: str, how: str) -> None:
        with pytest.raises(EgressRefused) as caught:
            EgressPolicy().check_url(url)
        assert (caught.value.rule, caught.value.how_to_allow) == (rule, how)

    @pytest.mark.parametrize("url", ["gopher://a.example/", "ftp://a.example:21/", "ws://a.example/"])
    def test_no_policy_allows_another_scheme(self, url: str) -> None:
        with pytest.raises(EgressRefused, match="is neither https nor http") as caught:
            EgressPolicy().check_url(url)
        assert caught.value.how_to_allow == "no policy allows it: write https"

    @pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1", "64:ff9b::1.1.1.1"])
    def test_global_unicast_is_allowed(self, address: str) -> None:
        EgressPolicy().check_address(address)
        EgressPolicy().check_address(address, host="receiver.example")

    @pytest.mark.parametrize("address", HOSTILE)
    @pytest.mark.parametrize("host", [None, "receiver.example", "localhost"])
    def test_nothing_else_is(self, address: str, host: str | None) -> None:
        with pytest.raises(EgressRefused):
            EgressPolicy().check_address(address, host=host)

    @pytest.mark.parametrize("address", METADATA.values(), ids=METADATA.keys())
    @pytest.mark.parametrize("host", ["metadata.google.internal", "169.254.169.254.nip.example", None])
    def test_no_name_leads_to_a_clouds_metadata(self, address: str, host: str | None) -> None:
        with pytest.raises(EgressRefused, match="is not global"):
            EgressPolicy().check_address(address, host=host)

    def test_what_lies_behind_a_translator_is_named(self) -> None:
        with pytest.raises(EgressRefused, match=r"^10\.0\.0\.1 is not global: private use"):
            EgressPolicy().check_address("64:ff9b::10.0.0.1")


class TestDevelopment:
    policy = EgressPolicy.development()

    @pytest.mark.parametrize(
        "url",
        [
            "http://localhost:8000/",
            "https://localhost/",
            "http://app.localhost:3000/",
            "http://127.0.0.1:1/",
            "http://[::1]:9/",
        ],
    )
    def test_loopback_by_its_usual_names(self, url: str) -> None:
        self.policy.check_url(url)

    @pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1"])
    @pytest.mark.parametrize("host", ["localhost", "app.localhost", None])
    def test_loopback_addresses(self, address: str, host: str | None) -> None:
        self.policy.check_address(address, host=host)

    @pytest.mark.parametrize(
        "address", ["10.0.0.1", "192.168.1.1", "169.254.169.254", "fd00::1", "::ffff:127.0.0.1", "0.0.0.1"]
    )
    @pytest.mark.parametrize("host", ["localhost", None])
    def test_nothing_else_private(self, address: str, host: str | None) -> None:
        with pytest.raises(EgressRefused):
            self.policy.check_address(address, host=host)

    def test_a_strangers_name_does_not_lead_to_loopback(self) -> None:
        with pytest.raises(EgressRefused, match="loopback"):
            self.policy.check_address("127.0.0.1", host="rebound.example")

    @pytest.mark.parametrize("url", ["http://localhost./", "http://2130706433/", "http://127.1/", "http://intranet/"])
    def test_tricks_stay_tricks(self, url: str) -> None:
        with pytest.raises(EgressRefused):
            self.policy.check_url(url)


class TestRules:
    def test_a_private_target_needs_name_and_network(self) -> None:
        name = EgressPolicy(allowed_hosts=("erp.corp.example",))
        network = EgressPolicy(allowed_networks=("10.0.0.0/8",))
        both = EgressPolicy(allowed_hosts=("erp.corp.example",), allowed_networks=("10.0.0.0/8",))
        for policy in (name, network):
            with pytest.raises(EgressRefused):
                policy.check_address("10.0.0.1", host="erp.corp.example")
        both.check_address("10.0.0.1", host="erp.corp.example")
        with pytest.raises(EgressRefused):
            both.check_address("10.0.0.1", host="other.example")
        with pytest.raises(EgressRefused):
            both.check_address("192.168.0.1", host="erp.corp.example")

    def test_an_address_in_the_url_is_a_name_too(self) -> None:
        network = EgressPolicy(allowed_hosts=("erp.corp.example",), allowed_networks=("10.0.0.0/8",))
        with pytest.raises(EgressRefused):
            network.check_url("https://10.0.0.1/")
        EgressPolicy(allowed_hosts=("10.0.0.0/30",), allowed_networks=("10.0.0.0/8",)).check_url("https://10.0.0.1/")

    def test_a_wildcard_is_everything_under_a_name_and_not_the_name(self) -> None:
        policy = EgressPolicy(allowed_hosts=("*.corp.example",), allowed_networks=("10.0.0.0/8",))
        policy.check_address("10.0.0.1", host="a.b.corp.example")
        for host in ("corp.example", "evilcorp.example", "corp.example.evil.example"):
            with pytest.raises(EgressRefused):
                policy.check_address("10.0.0.1", host=host)

    def test_a_single_label_may_be_allowed_by_name(self) -> None:
        policy = EgressPolicy(
            schemes=("http",), ports=None, allowed_hosts=("receiver",), allowed_networks=("172.16.0.0/12",)
        )
        policy.check_url("http://receiver:8000/")
        policy.check_address("172.18.0.3", host="receiver")

    def test_patterns_are_compared_as_urls_spell_hosts(self) -> None:
        policy = EgressPolicy(denied_hosts=("MÜNCHEN.example".lower(), "*.Bad.Example"))
        for url in ("https://münchen.example/", "https://xn--mnchen-3ya.example/", "https://a.bad.example/"):
            with pytest.raises(EgressRefused, match="denied"):
                policy.check_url(url)

    def test_a_denial_beats_every_rule(self) -> None:
        policy = EgressPolicy(
            allowed_hosts=("*.corp.example",),
            denied_hosts=("hr.corp.example",),
            allowed_networks=("10.0.0.0/8",),
            denied_networks=("10.9.0.0/16", "93.184.0.0/16"),
        )
        policy.check_url("https://erp.corp.example/")
        with pytest.raises(EgressRefused, match="denied"):
            policy.check_url("https://hr.corp.example/")
        for address in ("10.9.0.1", "93.184.215.14", "64:ff9b::93.184.215.14"):
            with pytest.raises(EgressRefused, match="denied"):
                policy.check_address(address, host="erp.corp.example")

    def test_an_allowed_translator_does_not_allow_what_lies_behind_it(self) -> None:
        translator = EgressPolicy(allowed_hosts=("a.example",), allowed_networks=("64:ff9b:1::/48",))
        translator.check_address("64:ff9b:1::101:101", host="a.example")  # 1.1.1.1, by a prefix of 96 bits
        translator.check_address("64:ff9b:1:808:8:800::", host="a.example")  # 8.8.8.8, by one of 48
        with pytest.raises(EgressRefused, match=r"10\.0\.0\.1"):
            translator.check_address("64:ff9b:1:a00:0:100::", host="a.example")

    def test_any_port(self) -> None:
        EgressPolicy(ports=None).check_url("https://a.example:1/")

    def test_a_policy_is_a_value(self) -> None:
        assert EgressPolicy(ports=[443], allowed_hosts=["a.example"]) == EgressPolicy(
            ports={443}, allowed_hosts=("a.example",)
        )
        assert hash(EgressPolicy()) == hash(EgressPolicy())
        assert EgressPolicy() != EgressPolicy.development()

    def test_policies_that_differ_in_one_rule_decide_each_for_itself(self) -> None:
        url = "https://a.example:8443/"
        rules: list[dict[str, Any]] = [{}, {"ports": (443,)}, {"denied_hosts": ("a.example",)}, {"schemes": ("http",)}]
        for _ in range(2):
            allowing = []
            for settings in rules:
                with suppress(EgressRefused):
                    EgressPolicy(**settings).check_url(url)
                    allowing.append(settings)
            assert allowing == [{}]


class TestOwnAddresses:
    """What listens on a public address of this very machine."""

    policy = EgressPolicy(own_addresses=("93.184.215.14", "2606:4700::5"))

    @pytest.mark.parametrize(
        ("address", "own"),
        [
            ("93.184.215.14", "93.184.215.14"),
            ("2606:4700::5", "2606:4700::5"),
            ("64:ff9b::93.184.215.14", "93.184.215.14"),
            ("2606:4700:1::5efe:93.184.215.14", "93.184.215.14"),
        ],
    )
    @pytest.mark.parametrize("host", [None, "receiver.example"])
    def test_it_is_refused_though_it_is_public(self, address: str, own: str, host: str | None) -> None:
        with pytest.raises(EgressRefused) as caught:
            self.policy.check_address(address, host=host)
        assert caught.value.rule == f"{own} is this machine's own"

    def test_in_the_url_it_is_refused_early(self) -> None:
        for url in ("https://93.184.215.14/", "https://[2606:4700::5]/", "https://[2606:4700:0:0::5]:8443/"):
            with pytest.raises(EgressRefused, match="own"):
                self.policy.check_url(url)

    def test_its_neighbours_are_others(self) -> None:
        for address in ("93.184.215.13", "93.184.215.15", "2606:4700::4", "2606:4700::6"):
            self.policy.check_address(address, host="receiver.example")

    def test_it_is_allowed_by_name_and_network_as_everything_else(self) -> None:
        name: dict[str, Any] = {"allowed_hosts": ("hooks.example",)}
        network: dict[str, Any] = {"allowed_networks": ("93.184.215.14",)}
        for settings in (name, network):
            with pytest.raises(EgressRefused, match="own"):
                replace(self.policy, **settings).check_address("93.184.215.14", host="hooks.example")
        allowing = replace(self.policy, **name, **network)
        allowing.check_address("93.184.215.14", host="hooks.example")
        with pytest.raises(EgressRefused, match="own"):
            allowing.check_address("93.184.215.14", host="other.example")

    def test_a_private_one_is_refused_for_what_it_is(self) -> None:
        with pytest.raises(EgressRefused, match="private use"):
            EgressPolicy(own_addresses=("10.0.0.5",)).check_address("10.0.0.5")

    def test_whole_networks_may_be_ones_own(self) -> None:
        with pytest.raises(EgressRefused, match=r"93\.184\.215\.99 is this machine's own"):
            EgressPolicy(own_addresses=("93.184.215.0/24",)).check_address("93.184.215.99")


ALLOWED = EgressPolicy(
    schemes=("http",),
    ports=(8000,),
    allowed_hosts=("erp.corp.example", "*.lab.example"),
    denied_hosts=("hr.corp.example", "*.bad.example", "Bad.example", "93.184.0.0/16", "93.0.0.0/8"),
    allowed_networks=("10.0.0.0/8",),
    denied_networks=("10.9.0.0/16", "10.9.9.9", "8.8.8.8", "2606:4700:bad::/48"),
    own_addresses=("1.1.1.1",),
)
"""A policy that has something in every setting."""


class TestHowToAllow:
    """The line that a refusal prints is Python, and does what it says."""

    @staticmethod
    def as_printed(policy: EgressPolicy, line: str) -> EgressPolicy:
        """The policy with the settings of the line in place of its own."""
        changed = eval(line, {"EgressPolicy": lambda **settings: replace(policy, **settings)})  # noqa: S307 - our own line
        assert isinstance(changed, EgressPolicy)
        return changed

    @pytest.mark.parametrize(
        "url",
        [
            "http://a.example/",
            "https://a.example:22/",
            "https://intranet/",
            "https://localhost/",
            "https://app.localhost/",
            "https://10.0.0.1/",
            "https://[::1]/",
            "https://[64:ff9b::a00:1]/",
            "https://[2001:0:a00:1:8000:63bf:fefe:fefe]/",
            "https://[2002:808:808::5efe:a00:1]/",
            # Several rules at once, and one line for all.
            "http://169.254.169.254:8000/latest/",
            "http://intranet:81/",
            "http://[fd00::1]:81/",
        ],
    )
    def test_by_default_it_stands_alone(self, url: str) -> None:
        with pytest.raises(EgressRefused) as caught:
            EgressPolicy().check_url(url)
        policy = eval(caught.value.how_to_allow, {"EgressPolicy": EgressPolicy})  # noqa: S307 - our own line
        policy.check_url(url)

    @pytest.mark.parametrize("block", [block for block in BLOCKS if block.refused], ids=lambda block: block.network)
    @pytest.mark.parametrize("host", [None, "receiver.example"])
    def test_every_range_of_the_registries_can_be_allowed(self, block: Block, host: str | None) -> None:
        address = str(ip_network(block.network)[-1 if block.network == "::/0" else 0])
        with pytest.raises(EgressRefused) as caught:
            EgressPolicy().check_address(address, host=host)
        policy = eval(caught.value.how_to_allow, {"EgressPolicy": EgressPolicy})  # noqa: S307 - our own line
        policy.check_address(address, host=host)
        with pytest.raises(EgressRefused):  # and nobody else may
            policy.check_address(address, host="other.example")

    @pytest.mark.parametrize(
        ("url", "rule"),
        [
            ("https://a.example:8000/", "the scheme 'https' is not allowed"),
            ("http://a.example/", "the port 80 is not allowed"),
            ("http://hr.corp.example:8000/", "the host 'hr.corp.example' is denied"),
            ("http://a.bad.example:8000/", "the host 'a.bad.example' is denied"),
            ("http://bad.example:8000/", "the host 'bad.example' is denied"),
            ("http://93.184.215.14:8000/", "the host '93.184.215.14' is denied"),
            ("http://intranet:8000/", "the host 'intranet' is a single label"),
            ("http://8.8.8.8:8000/", "8.8.8.8 is denied"),
            ("http://[2606:4700:bad::1]:8000/", "2606:4700:bad::1 is denied"),
            ("http://1.1.1.1:8000/", "1.1.1.1 is this machine's own"),
            ("http://10.1.1.1:8000/", "10.1.1.1 is not global: private use"),
            ("http://10.9.9.9:8000/", "10.9.9.9 is denied"),
            ("https://10.9.9.9:22/", "the scheme 'https' is not allowed"),
        ],
    )
    def test_it_keeps_what_a_policy_has_and_adds_what_is_missing(self, url: str, rule: str) -> None:
        with pytest.raises(EgressRefused) as caught:
            ALLOWED.check_url(url)
        assert caught.value.rule == rule
        changed = self.as_printed(ALLOWED, caught.value.how_to_allow)
        changed.check_url(url)
        for name in ("schemes", "ports", "allowed_hosts", "allowed_networks"):
            assert set(getattr(changed, name)) >= set(getattr(ALLOWED, name))
        for name in ("denied_hosts", "denied_networks"):
            assert set(getattr(changed, name)) <= set(getattr(ALLOWED, name))

    @pytest.mark.parametrize("address", ["10.9.9.9", "192.168.0.1", "64:ff9b::8.8.8.8", "1.1.1.1", "64:ff9b::1.1.1.1"])
    @pytest.mark.parametrize("host", ["erp.corp.example", "receiver.example", None])
    def test_so_it_is_with_what_a_name_resolves_to(self, address: str, host: str | None) -> None:
        with pytest.raises(EgressRefused) as caught:
            ALLOWED.check_address(address, host=host)
        self.as_printed(ALLOWED, caught.value.how_to_allow).check_address(address, host=host)

    @given(
        st.builds(
            EgressPolicy,
            schemes=st.sampled_from([("https",), ("http",)]),
            ports=st.sampled_from([None, (443,), (80, 8000)]),
            allowed_hosts=st.sets(st.sampled_from(["intranet", "a.example", "*.example", "10.0.0.0/8", "::1"])),
            denied_hosts=st.sets(st.sampled_from(["a.example", "A.example", "*.example", "10.0.0.0/8", "::1"])),
            allowed_networks=st.sets(st.sampled_from(["10.0.0.0/8", "::/0", "0.0.0.0/0", "127.0.0.1"])),
            denied_networks=st.sets(st.sampled_from(["10.0.0.0/9", "::/0", "0.0.0.0/0", "8.8.8.8"])),
            own_addresses=st.sampled_from([None, (), ("8.8.8.8", "10.0.0.1")]),
        ),
        st.sampled_from(["http", "https"]),
        st.sampled_from(["intranet", "a.example", "10.0.0.1", "8.8.8.8", "[::1]", "[64:ff9b::a00:1]", "localhost"]),
        st.sampled_from(["", ":443", ":8000", ":1"]),
    )
    def test_whatever_refuses_one_change_allows(self, policy: EgressPolicy, scheme: str, host: str, port: str) -> None:
        url = f"{scheme}://{host}{port}/"
        try:
            policy.check_url(url)
        except EgressRefused as refused:
            self.as_printed(policy, refused.how_to_allow).check_url(url)

    @pytest.mark.parametrize(
        ("address", "rule"), [("fe80::1%eth0", "the address has a zone identifier"), ("10.1", "'10.1' is no address")]
    )
    def test_what_no_policy_allows_says_so(self, address: str, rule: str) -> None:
        with pytest.raises(EgressRefused) as caught:
            EgressPolicy().check_address(address)
        assert caught.value.rule == rule
        assert caught.value.how_to_allow.startswith("no policy allows it: ")


class TestConfiguration:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"schemes": ("ftp",)}, "'ftp' is neither"),
            ({"schemes": "https"}, "is a collection"),
            ({"ports": (0,)}, "0 is not from 1 to 65535"),
            ({"ports": (65536,)}, "65536"),
            ({"allowed_hosts": "localhost"}, "is a collection"),
            ({"allowed_hosts": ("http://a.example",)}, "allowed_hosts"),
            ({"allowed_hosts": ("a.example:80",)}, "more than a host"),
            ({"allowed_hosts": ("a.example/path",)}, "more than a host"),
            ({"allowed_hosts": ("*",)}, "is no host"),
            ({"allowed_hosts": ("a.*.example",)}, "is no host"),
            ({"denied_hosts": ("2130706433",)}, "looks like a number"),
            ({"denied_hosts": ("10.0.0.1/8",)}, "denied_hosts"),
            ({"allowed_networks": ("10.0.0.1/8",)}, "has host bits set"),
            ({"allowed_networks": ("localhost",)}, "allowed_networks"),
            ({"denied_networks": ("::/129",)}, "denied_networks"),
            ({"own_addresses": ("localhost",)}, "own_addresses"),
            ({"own_addresses": "10.0.0.1"}, "is a collection"),
        ],
    )
    def test_a_mistake_is_found_at_construction(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            EgressPolicy(**settings)
