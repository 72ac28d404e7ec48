"""Whether a store's own address answers for itself, before anything that is secret is said to it.

The clients of S3 and Azure follow a redirect to any host, and what they carry goes along: a session's token in a
header, a shared access signature in the address that they say they come from. None of them can be told not to. What it
decides: an address that a user names himself is first asked without credentials, once in a process, and one that sends
on to another host is refused. The clouds' own addresses are taken for what they are, and one that does not answer is
left to the client, which says so itself.
"""

from __future__ import annotations

from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from cluster.core.locations import Location, Options, options_for

PATIENCE_S = 5.0


def check_endpoint(place: Location, options: Options) -> None:
    """Raises OSError where the address that the options name for a store sends on to another host."""
    endpoint = _endpoint(place, options)
    other = _sends_on_to(endpoint, place.bucket) if endpoint else None
    if other is not None:
        raise OSError(
            f"{endpoint} sends on to {other}, and credentials for the one are not for the other; name the store's own "
            "address in [storage]"
        )


def _endpoint(place: Location, options: Options) -> str | None:
    given = options_for(place.scheme, options)
    if place.scheme == "abfs":
        authority, scheme = str(given.get("blob_storage_authority", "")), given.get("blob_storage_scheme", "https")
        account = given.get("account_name") or place.account
        return f"{scheme}://{account if authority.startswith('.') else ''}{authority}" if authority else None
    endpoint = str(given.get("endpoint_override", ""))
    return endpoint if "://" in endpoint or not endpoint else f"{given.get('scheme', 'https')}://{endpoint}"


@cache
def _sends_on_to(endpoint: str, bucket: str) -> str | None:
    place = urlsplit(endpoint)
    kind = HTTPSConnection if place.scheme == "https" else HTTPConnection
    connection = kind(place.netloc, timeout=PATIENCE_S)
    try:
        connection.request("HEAD", f"{place.path.rstrip('/')}/{bucket}/")
        answer = connection.getresponse()
        target = urlsplit(answer.headers.get("Location", "")).netloc if 300 <= answer.status < 400 else ""
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return target if target and target != place.netloc else None
