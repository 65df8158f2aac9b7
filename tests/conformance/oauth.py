"""The official SDK's OAuth providers, one for each scenario, and a user who agrees to everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

CALLBACK = "http://localhost:3000/callback"
METADATA_URL = "https://conformance-test.local/client-metadata.json"
"""What the suite knows the client by where the server takes such URLs."""


class Storage:
    """Tokens and the registration, in memory."""

    def __init__(self, client: OAuthClientInformationFull | None = None) -> None:
        self._client = client
        self._tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self._tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self._tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self._client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self._client = client_info


class User:
    """Agrees to everything: the suite's authorization server redirects at once."""

    def __init__(self) -> None:
        self._location = ""

    async def agree(self, url: str) -> None:
        async with httpx2.AsyncClient() as client:
            self._location = (await client.get(url)).headers["location"]

    async def come_back(self) -> AuthorizationCodeResult:
        given = {name: values[0] for name, values in parse_qs(urlsplit(self._location).query).items()}
        return AuthorizationCodeResult(code=given["code"], state=given.get("state"), iss=given.get("iss"))


def provider(scenario: str, url: str, context: Mapping[str, Any]) -> OAuthClientProvider:
    """The SDK's provider for a scenario."""
    if scenario == "auth/client-credentials-basic":
        return ClientCredentialsOAuthProvider(
            url, Storage(), client_id=context["client_id"], client_secret=context["client_secret"]
        )
    if scenario == "auth/client-credentials-jwt":
        signer = SignedJWTParameters(
            issuer=context["client_id"],
            subject=context["client_id"],
            signing_algorithm=context.get("signing_algorithm", "ES256"),
            signing_key=context["private_key_pem"],
        )
        return PrivateKeyJWTOAuthProvider(
            url,
            Storage(),
            client_id=context["client_id"],
            assertion_provider=signer.create_assertion_provider(),
        )
    known = None
    if "client_secret" in context:
        known = OAuthClientInformationFull(
            client_id=context["client_id"],
            client_secret=context["client_secret"],
            redirect_uris=[CALLBACK],
            token_endpoint_auth_method="client_secret_basic",
        )
    user = User()
    return OAuthClientProvider(
        url,
        OAuthClientMetadata(
            client_name="turnout",
            redirect_uris=[CALLBACK],
            grant_types=["authorization_code", "refresh_token"],
            response_types=["code"],
        ),
        Storage(known),
        redirect_handler=user.agree,
        callback_handler=user.come_back,
        client_metadata_url=METADATA_URL,
    )
