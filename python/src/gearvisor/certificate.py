# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Until when a certificate is valid, read from its PEM file without any library for X.509."""

from __future__ import annotations

import binascii
import calendar
import re
import time

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _EXPLICIT_0 = 0x30, 0x17, 0x18, 0xA0


def valid_until(pem: bytes) -> float:
    """Return the end of the first certificate's validity, in seconds since the epoch.

    Raises ValueError when it is not a certificate. RFC 5280, 4.1: the validity is the fourth
    member of the signed part, behind an optional version.
    """
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("no certificate in PEM form")
    try:
        der = binascii.a2b_base64(found[1])
        _tag, certificate, _rest = _element(der)
        _tag, signed, _rest = _element(certificate)
        tag, _value, rest = _element(signed)
        if tag == _EXPLICIT_0:
            _tag, _value, rest = _element(rest)  # the serial number
        for _member in range(2):  # signature, issuer
            _tag, _value, rest = _element(rest)
        tag, validity, _rest = _element(rest)
        if tag != _SEQUENCE:
            raise ValueError("no validity")
        _tag, _value, rest = _element(validity)
        tag, moment, _rest = _element(rest)
        if tag == _UTC_TIME:  # years 50 to 99 are of the last century
            moment = (b"19" if moment[:2] >= b"50" else b"20") + moment
        elif tag != _GENERALIZED_TIME:
            raise ValueError("no time")
        return float(calendar.timegm(time.strptime(moment.decode("ascii"), "%Y%m%d%H%M%SZ")))
    except (IndexError, UnicodeDecodeError, binascii.Error) as error:
        raise ValueError(f"not a certificate: {error}") from None


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """Return tag and content of the first DER element, and what follows it."""
    tag, length, start = der[0], der[1], 2
    if length & 0x80:
        size = length & 0x7F
        length, start = int.from_bytes(der[2 : 2 + size], "big"), 2 + size
    if len(der) < start + length:
        raise ValueError("it ends too early")
    return tag, der[start : start + length], der[start + length :]
