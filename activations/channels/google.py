"""How destinations of Google's log in: as a service account, by a token."""

import json
from typing import Any

import httpx2

from activations.channels import DestinationDownError
from activations.channels.options import Credential, CredentialError, Surroundings


class GoogleLogin:
    """A service account of Google's, with a token that is renewed in time."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    def headers(self) -> dict[str, str]:
        """What a call is authorized by.

        Raises:
            DestinationDownError: if no token is to be had now.
        """
        from google.auth.exceptions import GoogleAuthError

        if not self._credentials.valid:
            try:
                self._credentials.refresh(fetch)
            except (GoogleAuthError, httpx2.RequestError) as error:
                reason = f"google: {type(error).__name__}"
                raise DestinationDownError(reason) from None
        return {"authorization": f"Bearer {self._credentials.token}"}


def google_login(
    place: Credential, scope: str, surroundings: Surroundings
) -> GoogleLogin:
    """The login of a service account.

    Raises:
        CredentialError: naming the place that holds no such key.
    """
    from google.oauth2.service_account import Credentials

    text = place.read(surroundings).get_secret_value()
    try:
        make: Any = Credentials.from_service_account_info
        return GoogleLogin(make(json.loads(text), scopes=[scope]))
    except Exception:
        raise CredentialError(
            f"{place.file or place.env} holds no JSON key of a service account"
        ) from None


class Fetched:
    """A response as google-auth reads it."""

    def __init__(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.data = response.content


def fetch(
    url: str,
    method: str = "GET",
    body: Any = None,
    headers: Any = None,
    timeout: float | None = 30.0,
    **_: Any,
) -> Fetched:
    """Fetch a token, as google-auth asks for it."""
    return Fetched(
        httpx2.request(method, url, content=body, headers=headers, timeout=timeout)
    )
