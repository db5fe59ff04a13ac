# SPDX-License-Identifier: GPL-2.0-only
"""A mirror that is not Debian's, with the real apt: what it offers is not built."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import threading
import time
from pathlib import Path

import pytest

from orchestrator.errors import HarnessError
from orchestrator.host import process
from orchestrator.source import archive, debian, sources

VERSION = "99.9"
CONTROL = f"""Package: linux-source-{VERSION}
Version: {VERSION}-1
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: a kernel of somebody else
"""
NOT_SIGNED = ""
FORGED = """-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

{release}
-----BEGIN PGP SIGNATURE-----

iHUEARYIAB0WIQQAAAAAAAAAAAAAAAAAAAAAAAAAAAUCAAAAAAAKCRAAAAAAAAAA
AAAAAP9AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
=AAAA
-----END PGP SIGNATURE-----
"""


def mirror_with(place: Path, signed: str) -> Path:
    """A repository that has one package, for every release that is looked in."""
    tree = place / "package"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(CONTROL)
    deb = place / "pool/evil.deb"
    deb.parent.mkdir()
    process.run(["dpkg-deb", "--build", str(tree), str(deb)])
    content = deb.read_bytes()
    packages = (
        f"{CONTROL}Filename: pool/evil.deb\nSize: {len(content)}\n"
        f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
    )
    for suite in archive.releases().suites:
        for arch in ("amd64", "all"):
            listed = place / f"dists/{suite}/main/binary-{arch}/Packages"
            listed.parent.mkdir(parents=True)
            listed.write_text(packages)
        digest = hashlib.sha256(packages.encode()).hexdigest()
        release = (
            f"Origin: Debian\nLabel: Debian\nSuite: {suite}\nCodename: {suite}\n"
            "Date: Sat, 10 Jun 2023 00:00:00 UTC\nArchitectures: amd64 all\nComponents: main\n"
            "SHA256:\n"
            f" {digest} {len(packages)} main/binary-amd64/Packages\n"
            f" {digest} {len(packages)} main/binary-all/Packages\n"
        )
        name, text = (
            ("InRelease", signed.format(release=release)) if signed else ("Release", release)
        )
        (place / f"dists/{suite}/{name}").write_text(text)
    return place


@pytest.mark.parametrize("signed", [NOT_SIGNED, FORGED], ids=["not signed", "signature forged"])
def test_a_package_that_debian_has_not_signed_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed: str
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("KLP_E2E_CACHE", str(cache))
    forged = mirror_with(tmp_path / "mirror", signed)
    monkeypatch.setattr(archive, "_mirror", lambda _wanted: f"file:{forged}")
    said: list[str] = []
    with pytest.raises(HarnessError, match=rf"linux-source-{VERSION}"):
        sources.fetch(f"debian:{VERSION}", say=said.append)
    assert any(line.startswith("E: The repository") or "GPG error" in line for line in said), said
    assert not list(cache.glob("sources/*/linux"))
    assert not list(cache.rglob("*.deb"))


class _Trickling(http.server.BaseHTTPRequestHandler):
    """Sends a byte now and then."""

    def do_GET(self) -> None:
        self.send_response(http.HTTPStatus.OK)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        with contextlib.suppress(OSError):  # it is given up
            while True:
                self.wfile.write(b"O")
                time.sleep(0.2)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_mirror_that_never_comes_to_an_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(archive, "_UPDATE_SECONDS", 3.0)
    said: list[str] = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Trickling) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        there = f"http://127.0.0.1:{server.server_port}/debian"
        monkeypatch.setattr(archive, "_mirror", lambda _wanted: there)
        try:
            with pytest.raises(HarnessError, match="nobody knows"):
                debian.newest(said.append)
        finally:
            server.shutdown()
            thread.join()
    assert any("does not give its package lists within 3 s" in line for line in said), said
