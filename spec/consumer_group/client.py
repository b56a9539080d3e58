"""What a client does: heartbeats, their responses, reconciliation, departure and crash.

Not modelled: the time-outs of heartbeats and of reconciliation, the offset commit before a revocation (an action's
single step stands for it), static membership, regular expressions in subscriptions, and FATAL errors.

Source: KIP-848, and in Kafka's clients `AbstractMembershipManager` and `AbstractHeartbeatRequestManager`.
"""

from __future__ import annotations

from hwmark.spec.consumer_group.network import discard_response, send_request
from hwmark.spec.consumer_group.state import (
    JOIN_GROUP_MEMBER_EPOCH,
    LEAVE_GROUP_MEMBER_EPOCH,
    Client,
    ClientId,
    ClientStatus,
    Error,
    Group,
    GroupStatus,
    HeartbeatRequest,
    HeartbeatResponse,
    MemberId,
    MemberStatus,
    MessageIndex,
    Topics,
    clients,
    member_count,
    perturbations,
    topics,
)
from hwmark.spec.lang import EMPTY, NONE, contains, everything, size

# -------------------------------------------------------------------------------------------------- heartbeats


def client_send_heartbeat(s: Group, client_id: ClientId, subscribed: Topics) -> bool:
    """A client without a heartbeat in flight sends one, perhaps with a new subscription.

    Not modelled: the heartbeat interval. A group that has converged is quiet, so that a model that converges ends.
    """
    client = s.clients[client_id]
    if client.heartbeat_in_flight or has_converged(s) or not may_subscribe(s, client, subscribed):
        return False
    if client.subscribed != subscribed:
        client.subscribed = subscribed
        s.perturbed += 1
    connect(s, client)
    send_request(
        s,
        HeartbeatRequest(
            client=client_id,
            connection_id=client.connection_id,
            member_id=client.member_id,
            member_epoch=client.member_epoch,
            subscribed=subscribed,
            topic_partitions=topic_partitions_to_send(client),
        ),
    )
    note_heartbeat_sent(client)
    return True


def may_subscribe(s: Group, client: Client, subscribed: Topics) -> bool:
    """A client may subscribe to any topics but none, as long as perturbations are left."""
    return size(subscribed) > 0 if s.perturbed < perturbations else subscribed == client.subscribed


def connect(s: Group, client: Client) -> None:
    """A client that has no connection makes one."""
    if client.connection_id == NONE:
        client.connection_id = s.next_connection_id
        s.next_connection_id += 1


def has_news(client: Client) -> bool:
    """Whether the coordinator has yet to learn, or to hear again, what the client has."""
    return client.topic_partitions_sent != client.assignment or client.assignment != client.target_assignment


def topic_partitions_to_send(client: Client) -> int:
    """What a heartbeat says that the client has; None if there is nothing new."""
    return client.assignment if has_news(client) else NONE


def note_heartbeat_sent(client: Client) -> None:
    """Sending a heartbeat completes an acknowledgement or a departure, and begins a new membership."""
    client.heartbeat_in_flight = True
    if has_news(client):
        client.topic_partitions_sent = client.assignment
    if client.status == ClientStatus.UNSUBSCRIBED:
        client.status = ClientStatus.JOINING
    elif client.status == ClientStatus.ACKNOWLEDGING:
        client.status = (
            ClientStatus.STABLE if client.assignment == client.target_assignment else ClientStatus.RECONCILING
        )
    elif client.status == ClientStatus.LEAVING:
        client.status = ClientStatus.UNSUBSCRIBED
        client.member_id = NONE
        client.member_epoch = JOIN_GROUP_MEMBER_EPOCH


def is_for_its_connection(s: Group, response: HeartbeatResponse) -> bool:
    """Whether the response comes by the connection that the client has now."""
    return s.clients[response.client].connection_id == response.connection_id


def has_begun_to_leave(client: Client) -> bool:
    """Whether the client wants to leave, or has left and not joined again."""
    return (
        client.status == ClientStatus.PREPARE_LEAVING
        or client.status == ClientStatus.LEAVING
        or client.status == ClientStatus.UNSUBSCRIBED
    )


def client_receive_error(s: Group, index: MessageIndex) -> bool:
    """A client learns that it is fenced or unknown: it gives up its partitions at once and joins as a new member.

    One that is leaving has then left. Not modelled: the time that the client takes to give its partitions up.
    """
    if index >= len(s.responses):
        return False
    response = s.responses[index]
    if response.error == Error.NONE or not is_for_its_connection(s, response):
        return False
    client = s.clients[response.client]
    client.heartbeat_in_flight = False
    if client.status != ClientStatus.UNSUBSCRIBED:
        give_up_membership(client)
        client.status = ClientStatus.UNSUBSCRIBED if has_begun_to_leave(client) else ClientStatus.JOINING
    discard_response(s, index)
    return True


def give_up_membership(client: Client) -> None:
    """A fenced client forgets its membership and its partitions."""
    client.member_id = NONE
    client.member_epoch = JOIN_GROUP_MEMBER_EPOCH
    forget_partitions(client)


def forget_partitions(client: Client) -> None:
    """A client is left with no partition, and with nothing said about any."""
    client.assignment = EMPTY
    client.target_assignment = EMPTY
    client.topic_partitions_sent = NONE


def client_receive_success(s: Group, index: MessageIndex) -> bool:
    """A client learns its member epoch and, if it is new, its assignment; one that has begun to leave does not care.

    The assignment of a response that finds a reconciliation going on waits as target until that one has completed.
    """
    if index >= len(s.responses):
        return False
    response = s.responses[index]
    if response.error != Error.NONE or not is_for_its_connection(s, response):
        return False
    client = s.clients[response.client]
    client.heartbeat_in_flight = False
    if not has_begun_to_leave(client):
        client.member_id = response.member_id
        client.member_epoch = response.member_epoch
        if response.assignment == NONE:
            go_on_with_target(client)
        else:
            take_assignment(client, response.assignment)
    discard_response(s, index)
    return True


def go_on_with_target(client: Client) -> None:
    """Without a new assignment, a client is stable at its target, or takes up a reconciliation that is left to do."""
    if client.target_assignment == client.assignment:
        client.status = ClientStatus.STABLE
    elif client.status == ClientStatus.RECONCILING:
        start_reconciliation(client)


def take_assignment(client: Client, assignment: int) -> None:
    """A client that has what it is assigned is stable, and any other reconciles; an acknowledgement comes first."""
    if assignment != client.assignment:
        client.target_assignment = assignment
        start_reconciliation(client)
    elif client.status == ClientStatus.JOINING or client.status == ClientStatus.RECONCILING:
        client.status = ClientStatus.STABLE


# ---------------------------------------------------------------------------------------------- reconciliation


def start_reconciliation(client: Client) -> None:
    """A client begins to revoke and to add partitions, unless it is at it."""
    if client.reconciling_to == NONE:
        client.status = ClientStatus.RECONCILING
        client.reconciling_to = client.target_assignment
        client.reconciling_epoch = client.member_epoch


def client_complete_reconciliation(s: Group, client_id: ClientId) -> bool:
    """A reconciliation completes: the client has what it was assigned, and acknowledges it with its next heartbeat.

    One that began in another member epoch comes to nothing.
    """
    client = s.clients[client_id]
    if client.reconciling_to == NONE:
        return False
    if client.status == ClientStatus.RECONCILING and client.reconciling_epoch == client.member_epoch:
        client.assignment = client.reconciling_to
        client.status = ClientStatus.ACKNOWLEDGING
    stop_reconciliation(client)
    return True


def stop_reconciliation(client: Client) -> None:
    """Nothing is being reconciled."""
    client.reconciling_to = NONE
    client.reconciling_epoch = 0


# ----------------------------------------------------------------------------------------------- perturbations


def client_start_leave(s: Group, client_id: ClientId) -> bool:
    """A member begins to leave: it will commit offsets and give up its partitions before it tells the coordinator."""
    client = s.clients[client_id]
    if s.perturbed == perturbations or client.member_epoch <= 0 or has_begun_to_leave(client):
        return False
    client.status = ClientStatus.PREPARE_LEAVING
    client.leaving_with = client.assignment
    s.perturbed += 1
    return True


def client_complete_leave(s: Group, client_id: ClientId) -> bool:
    """A departing member has given up its partitions; its next heartbeat says that it leaves.

    One that was fenced in the meantime has nothing to do.
    """
    client = s.clients[client_id]
    if client.leaving_with == NONE:
        return False
    if client.status == ClientStatus.PREPARE_LEAVING:
        client.status = ClientStatus.LEAVING
        client.member_epoch = LEAVE_GROUP_MEMBER_EPOCH
        client.subscribed = EMPTY
        forget_partitions(client)
    client.leaving_with = NONE
    return True


def client_crash(s: Group, client_id: ClientId) -> bool:
    """A member dies and starts anew, with a new connection; what it sent by the old one is still on its way."""
    client = s.clients[client_id]
    if s.perturbed == perturbations or client.member_epoch <= 0:
        return False
    start_client(client)
    s.perturbed += 1
    return True


def start_client(client: Client) -> None:
    """A client starts: it knows nothing, subscribes to every topic, and wants to join."""
    client.status = ClientStatus.JOINING
    client.connection_id = NONE
    client.heartbeat_in_flight = False
    client.member_id = NONE
    client.member_epoch = JOIN_GROUP_MEMBER_EPOCH
    client.subscribed = everything(topics)
    forget_partitions(client)
    stop_reconciliation(client)
    client.leaving_with = NONE


# ------------------------------------------------------------------------------------------------- convergence


def has_converged(s: Group) -> bool:
    """Whether every client is a member, and every member stable in the group's epoch, on both sides."""
    return (
        s.group_status == GroupStatus.STABLE
        and all(is_settled_client(s, s.clients[client_id]) for client_id in range(clients))
        and all(is_settled_member(s, member_id) for member_id in range(member_count))
    )


def is_settled_client(s: Group, client: Client) -> bool:
    """Whether the client is a stable member in the group's epoch, as it sees it."""
    return (
        contains(s.member_ids, client.member_id)
        and client.status == ClientStatus.STABLE
        and client.member_epoch == s.group_epoch
    )


def is_settled_member(s: Group, member_id: MemberId) -> bool:
    """Whether a member is stable in the group's epoch, as the coordinator sees it, or no member at all."""
    member = s.members[member_id]
    return not contains(s.member_ids, member_id) or (
        member.status == MemberStatus.STABLE and member.member_epoch == s.group_epoch
    )
