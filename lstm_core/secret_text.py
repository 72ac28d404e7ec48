"""Secrets in text that is not our own: messages of libraries and servers, URLs, headers.

Decides what looks like a secret there, and masks it: the user's name and password in a URL, the signature and the keys
of a signed one, what an authorization header gives, tokens and passwords in messages. What stands around it stays, so
that a message still says which server refused what. Every fault's sentence, every line on a terminal, in a log, a
record and a page goes through here.
"""

from __future__ import annotations

import re

MASK = "***"

_NAMES = (
    r"sig|signature|x-(?:amz|goog|ms)-(?:signature|credential|security-token|copy-source-authorization)|awsaccesskeyid"
    r"|googleaccessid|(?:aws_)?(?:secret_)?access_?key(?:_?id)?|(?:aws_)?session_?token|(?:shared_?)?account_?key"
    r"|sharedaccesssignature|sharedaccesskey|sas(?:_?token|_?key)?|(?:[a-z]+_)?token|client_?secret|secret(?:_?key)?"
    r"|api_?key|passwd|password|pwd|private_?key|credentials?"
)
_VALUE = r"""[^\s&"'<>,;)\]}\\]+"""
_USER = re.compile(r"""(?<=://)[^\s/?#"'<>@]*:[^\s/?#"'<>]*@|(?<=://)[^\s/?#"'<>@:]*@(?=[^\s/?#"'<>]*:\d)""")
_PAIR = re.compile(rf"(?i)(?:(?<![a-z0-9_/-])|(?<=%3f)|(?<=%26))((?:{_NAMES})(?:=|%3d))({_VALUE})")
_FIELD = re.compile(rf"""(?i)(["'](?:{_NAMES})["']\s*[:=]\s*["'])([^"']+)""")
_LABELLED = re.compile(rf"(?i)(?<![a-z0-9_-])((?:x-(?:amz|goog|ms)-[a-z-]*(?:token|signature|key)):\s*)({_VALUE})")
_HEADER = re.compile(
    rf"""(?i)(authorization["']?\s*[:=]\s*["']?(?:(?:bearer|basic|sharedkey(?:lite)?)\s+)?)({_VALUE})"""
)
_BARE = re.compile(
    r"(?i)\b((?:bearer|basic)\s+)((?=[\w.~+/=-]*[\d=.+/])[\w.~+/=-]{6,}|[A-Za-z]{20,})(?![\w:])"
    r"|\b(sharedkey(?:lite)?\s+)([\w-]+:[\w+/=]+)"
)


def masked(text: str) -> str:
    """The text with a mask in place of each secret; its own text where there is none."""
    if not any(sign in text for sign in "=:@%") and " " not in text:
        return text
    text = _USER.sub(f"{MASK}@", text)
    for pattern in (_PAIR, _FIELD, _LABELLED):
        text = pattern.sub(rf"\g<1>{MASK}", text)
    text = _HEADER.sub(rf"\g<1>{MASK}", text)
    return _BARE.sub(lambda found: f"{found[1] or found[3]}{MASK}", text)


def holds_secret(text: str) -> bool:
    """True where `masked` would change a text."""
    return masked(text) != text
