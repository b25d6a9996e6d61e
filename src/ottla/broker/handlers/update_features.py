"""UpdateFeatures (key 57): refused, since this broker has no feature whose level could be another (KIP-584).

Versions: 2 has no room for each feature's own result: all of them stand in the request's.
Errors: INVALID_UPDATE_VERSION, always, for the request and for each feature.
Source: ``FeatureControlManager.updateFeatures``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.messages.update_features import (
    UpdatableFeatureResult,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request

REFUSED = "This broker has no features to update."


def handle(broker: Broker, request: Request) -> UpdateFeaturesResponse:
    """Refuse all."""
    body: UpdateFeaturesRequest = request.body
    return UpdateFeaturesResponse(
        error_code=ErrorCode.INVALID_UPDATE_VERSION,
        error_message=REFUSED,
        results=[
            UpdatableFeatureResult(
                feature=name,
                error_code=ErrorCode.INVALID_UPDATE_VERSION,
                error_message=REFUSED,
            )
            for name in dict.fromkeys(update.feature for update in body.feature_updates)
        ],
    )
