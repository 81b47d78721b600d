"""Where a callback may go."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from callback_middleware.egress import EgressPolicy
from callback_middleware.egress.addresses import SPECIAL_PURPOSE
from callback_middleware.errors import ConfigurationError, EgressRefused

HOSTILE = [prefix.partition("/")[0] for prefix, purpose in SPECIAL_PURPOSE.items() if purpose and prefix != "::/0"]
HOSTILE += ["127.255.255.254", "10.255.255.255", "169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192"]
HOSTILE += ["168.63.129.16", "fd00:ec2::254", "fd20:ce::254", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "4000::1"]
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
                "the host 'localhost' is a single label",
                "EgressPolicy(allowed_hosts=('localhost',), allowed_networks=…)",
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

    def test_another_scheme_has_no_port(self) -> None:
        with pytest.raises(EgressRefused, match="scheme"):
            EgressPolicy().check_url("gopher://a.example/")

    @pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1", "64:ff9b::1.1.1.1"])
    def test_global_unicast_is_allowed(self, address: str) -> None:
        EgressPolicy().check_address(address)
        EgressPolicy().check_address(address, host="receiver.example")

    @pytest.mark.parametrize("address", HOSTILE)
    @pytest.mark.parametrize("host", [None, "receiver.example", "localhost"])
    def test_nothing_else_is(self, address: str, host: str | None) -> None:
        with pytest.raises(EgressRefused):
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
        translator.check_address("64:ff9b:1:101:1:100::", host="a.example")  # 1.1.1.1
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
        ],
    )
    def test_a_mistake_is_found_at_construction(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            EgressPolicy(**settings)
