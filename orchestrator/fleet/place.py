# SPDX-License-Identifier: GPL-2.0-only
"""The fleet that this user has begun or joined: its scheduler's address, its keys, its store."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from distributed.security import Security
from pydantic import Field, TypeAdapter, ValidationError

from orchestrator.errors import UsageError
from orchestrator.host import files, ours, workdir

DIRECTORY = "fleet"  # of the state directory
FILE = "fleet.json"
KEY, CERTIFICATE = "key.pem", "certificate.pem"
ADDRESS = r"(?:tls|tcp)://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}"
LOOPBACK = re.compile(r"(?:tls|tcp)://(?:127\.[0-9.]+|localhost|\[::1\]):")
YEARS = 10


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a machine has to know of a fleet beside the keys."""

    address: Annotated[str, Field(pattern=f"^{ADDRESS}$")]
    store: str


def directory() -> Path:
    """Made if need be, 0700."""
    place = workdir.state_dir() / DIRECTORY
    with workdir.disk_errors(f"{place} cannot be made"):
        place.mkdir(mode=0o700, exist_ok=True)
    return place


def remember(fleet: Fleet) -> None:
    text = TypeAdapter(Fleet).dump_json(fleet, indent=1).decode()
    workdir.write_atomically(directory() / FILE, text)


def known() -> Fleet:
    """Raises UsageError where there is none."""
    file = directory() / FILE
    try:
        return TypeAdapter(Fleet).validate_json(files.read(file, files.TEXT))
    except FileNotFoundError:
        raise UsageError(
            "this user has no fleet", hint="begin one: klp-e2e fleet start -n 2"
        ) from None
    except (OSError, ValidationError) as err:
        raise UsageError(
            f"{file} is damaged: {err}", hint="begin anew: klp-e2e fleet start"
        ) from err


def check_address(address: str) -> None:
    """Raises UsageError."""
    if not re.fullmatch(ADDRESS, address):
        raise UsageError(f"'{address}' is no address of a fleet", hint="tls://HOST:PORT")


def new_keys(place: Path) -> None:
    """One key and one certificate, of itself, for all of a fleet: who has them belongs to it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "klp-e2e fleet")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    with workdir.disk_errors(f"{place} cannot be written to"):
        for file, content in ((KEY, private), (CERTIFICATE, public)):
            with ours.replacing(place / file, sync=True) as partial:
                partial.touch(mode=0o600)
                partial.write_bytes(content)


def has_keys(place: Path) -> bool:
    return (place / KEY).is_file() and (place / CERTIFICATE).is_file()


def security(address: str, keys: Path) -> Security | None:
    """How to speak to that address. Raises UsageError for another host without TLS, and where there
    are no keys: whoever reaches a scheduler has every worker run what he likes."""
    if address.startswith("tcp://"):
        if not LOOPBACK.match(address):
            raise UsageError(
                f"{address} is another host, and tcp:// is not encrypted",
                hint="tls://HOST:PORT, with the keys that `klp-e2e fleet start` has made there",
            )
        return None
    if not has_keys(keys):
        raise UsageError(
            f"there are no keys of the fleet in {keys}",
            hint=f"copy {KEY} and {CERTIFICATE} from where `klp-e2e fleet start` was typed, and "
            "name their directory: --keys DIR",
        )
    key, certificate = str(keys / KEY), str(keys / CERTIFICATE)
    pair = {
        f"tls_{who}_{what}": path
        for who in ("client", "scheduler", "worker")
        for what, path in (("key", key), ("cert", certificate))
    }
    return Security(tls_ca_file=certificate, require_encryption=True, **pair)
