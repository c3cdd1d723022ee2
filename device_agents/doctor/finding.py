"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from isthmus.runtime.wire.certificate import Certificate, now_utc

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found about one thing.

    Attributes:
        name: The thing.
        level: "ok"; "warn": it works, worse than it could; "fail": the agent would not do its work.
        text: What was found, in one line.
        remedy: What to do about it; empty if it is ok.
    """

    name: str
    level: Level
    text: str
    remedy: str = ""


def ok(name: str, text: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(name=name, level="ok", text=text)


def warn(name: str, text: str, remedy: str) -> Finding:
    """Return a finding that costs speed, accuracy or insight."""
    return Finding(name=name, level="warn", text=text, remedy=remedy)


def fail(name: str, text: str, remedy: str) -> Finding:
    """Return a finding with which the agent would not do its work."""
    return Finding(name=name, level="fail", text=text, remedy=remedy)


def dates_of(name: str, certificate: Certificate, remedy: str) -> Finding:
    """Return the finding on a certificate's dates; `remedy` is what to do when they end."""
    now = now_utc()
    trouble = certificate.trouble(now)
    if not trouble:
        return ok(name, f"valid until {certificate.not_after:%Y-%m-%d %H:%M} UTC")
    return warn(name, trouble, remedy) if certificate.is_valid(now) else fail(name, trouble, remedy)
