"""Public URLs of receivers, none of which may be refused: refusing everything is no guard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_HOSTS: Final[Sequence[str]] = [
    # Names as they come.
    *(
        "example.org",
        "www.external.org",
        "hooks.example.com",
        "a.b.c.d.e.f.g.h.example",
        "api.staging.eu-west-1.example",
    ),
    *("Receiver.Example", "WWW.EXTERNAL.ORG", "xN--MnChEn-3yA.example", "1.example", "123.example", "4chan.example"),
    *("0x.example", "0x7f.example", "0.0.0.0.example", "10.0.0.1.example", "1password.example", "911.gov.example"),
    *("127.example", "2130706433.example", "a-b.example", "a--b.example", "r3---sn-abc.example", "-dash.example"),
    *("_dmarc.example", "my_service.example", "under_score.sub_domain.example", "_.example", "a_.b-.example"),
    *("x.y", "t.co", "localhost.example", "internal.example", "metadata.example", "local.host.example", "xn.example"),
    *("abc123.execute-api.eu-central-1.example", "d-1234567890.cloudfront.example", "app-7f6d8b.fly.example"),
    *("2fb7b6e0.ngrok-free.example", "sub.trycloudflare.example", "my-function-abcdefghij-uc.a.run.example"),
    *("a" * 63 + ".example", "a." * 122 + "example", "x" * 63 + "." + "y" * 63 + "." + "z" * 63 + ".example"),
    *("museum.museum", "shop.photography", "nic.xn--p1ai", "deadbeef.example", "fe80.example", "cafe.babe", "a.0b"),
    # Names of the rest of the world, as their owners write them and as DNS does.
    *("münchen.example", "xn--mnchen-3ya.example", "håndball.example", "łódź.example", "žluťoučký.example"),
    *("café.example", "cœur.example", "ığdır.example", "ñandú.example", "l·l.example", "ðæ.example", "ünïcödé.example"),  # noqa: RUF001
    *("президент.рф", "xn--d1abbgf6aiiy.xn--p1ai", "кириллица.example", "ελλάδα.example", "հայաստան.հայ"),
    *("日本語.jp", "xn--wgv71a119e.jp", "中国互联网络信息中心.中国", "한국.한국", "भारत.भारत", "தமிழ்.இந்தியா"),
    *("বাংলা.ভারত", "ไทย.คอม", "සිංහල.ලංකා", "ქართული.გე", "موقع.وزارة-الاتصالات.مصر", "שלום.ישראל"),
    *("xn--strae-oqa.example", "xn--fiqs8s.example", "xn--80ak6aa92e.example"),
    # Addresses.
    *("1.1.1.1", "8.8.8.8", "93.184.215.14", "9.9.9.9", "223.255.255.254", "100.63.255.255", "100.128.0.0"),
    *("172.15.255.255", "172.32.0.1", "192.0.1.1", "192.0.3.1", "192.88.98.1", "198.17.1.1", "198.20.0.1"),
    *("203.0.112.1", "203.0.114.1", "11.0.0.1", "126.255.255.255", "128.0.0.1", "169.253.1.1", "169.255.1.1"),
    *("[2606:4700:4700::1111]", "[2001:4860:4860::8888]", "[2620:fe::fe]", "[2a00:1450:4001:831::200e]"),
    *("[2606:4700:4700:0:0:0:0:1111]", "[2606:4700:4700::0000:1111]", "[2A00:1450:4001::200E]", "[2400:cb00::1]"),
    *("[2803:f800::1]", "[2c0f:fb50:4003::]", "[2001:200::1]", "[2003::1]", "[64:ff9b::808:808]", "[2410::1]"),
    *("[64:ff9b::0101:0101]", "[2630::1]", "[2a10::ffff:ffff]", "[2606:4700::5efe:808:808]", "[2001:db9::1]"),
]
_AROUND: Final[Sequence[tuple[str, str]]] = [
    ("https://", ""),
    ("https://", ":8443/callbacks/invoices/2expen51ve"),
    ("HTTPS://", "/hooks?tenant=7&token=a%20b%2Fc&empty=&lone"),
    ("https://", ":443/a/../b/./%2e%2e//c;v=1,2/~user/@handle:x!$&'()*+=" + "x" * 2_000),
    ("https://", ":8080?only=a-query"),
    ("Https://", ":80/#fragment-@:127.0.0.1"),
    ("https://", "/redirect?to=http://127.0.0.1/&u=user:password@host"),
]

LEGITIMATE: Final[Sequence[str]] = [
    scheme + host + _AROUND[(index + turn) % len(_AROUND)][1]
    for index, host in enumerate(_HOSTS)
    for turn in range(3)
    for scheme in [_AROUND[(index + turn) % len(_AROUND)][0]]
]
"""Every host in three of the seven forms."""
