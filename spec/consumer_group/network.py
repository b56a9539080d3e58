"""Sending, receiving and answering heartbeats."""

from __future__ import annotations

from hwmark.spec.consumer_group.state import Group, HeartbeatRequest, HeartbeatResponse, MessageIndex
from hwmark.spec.lang import discard, send


def forget_discarded(s: Group) -> None:
    """A step with messages begins by forgetting which message the one before took out."""
    if len(s.request_discarded) > 0:
        discard(s.request_discarded, 0)
    if len(s.response_discarded) > 0:
        discard(s.response_discarded, 0)


def send_request(s: Group, request: HeartbeatRequest) -> None:
    """A client's heartbeat is on its way."""
    forget_discarded(s)
    send(s.requests, request)


def discard_response(s: Group, index: MessageIndex) -> None:
    """A client is done with a response."""
    forget_discarded(s)
    send(s.response_discarded, s.responses[index])
    discard(s.responses, index)


def answer(s: Group, index: MessageIndex, response: HeartbeatResponse) -> None:
    """The coordinator is done with a request, and answers if the connection that it came by is still the client's."""
    forget_discarded(s)
    send(s.request_discarded, s.requests[index])
    discard(s.requests, index)
    if s.clients[response.client].connection_id == response.connection_id:
        send(s.responses, response)
