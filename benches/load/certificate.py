"""The certificate of every server in the works over TLS."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

FOLDER = Path(__file__).parent.parent / ".peers" / "tls"
NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


@functools.cache
def files() -> tuple[Path, Path]:
    """Makes a certificate and its key, once a run: ECDSA on P-256, self-signed, the key in PKCS#8."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    certificate, key = FOLDER / "certificate.pem", FOLDER / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "30", "-subj", "/CN=localhost", "-addext", NAMES),
            *("-out", str(certificate), "-keyout", str(key)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key
