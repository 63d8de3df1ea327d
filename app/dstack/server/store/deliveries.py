"""The inbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, text
from sqlmodel import Session, col, func, select, update

from dstack.server.models import Delivery, Group
from dstack.server.models.delivery import DeliveryState


@dataclass(frozen=True, slots=True)
class Webhook:
    """A verified webhook on its way into the store. `ignored`: why nothing can come of it, empty when something may;
    `digest` of the payload, empty where these are not the bytes the forge sent (its delivery log gives others)."""

    guid: str
    event: str
    forge_id: str
    sender: str
    payload: bytes
    digest: str
    ignored: str
    received_at: float


@dataclass(frozen=True, slots=True)
class Filed:
    """`outcome` is `received`, `ignored`, `duplicate` (its guid came before), or `differs` (with another payload)."""

    delivery_id: int
    outcome: str


_NEWEST = 50

# One statement a webhook, without building objects: thousands of them come at once after a push to many repositories.
_INSERT = text(
    "INSERT INTO deliveries (guid, kind, repo_id, sender, body, event, payload, digest, state, reason, tries,"
    " received_at, processed_at) VALUES (:guid, 'github',"
    " (SELECT id FROM repos WHERE forge = 'github' AND forge_id = :forge_id), :sender, '{}', :event, :payload, :digest,"
    " :state, :reason, 0, :received_at, :processed_at) ON CONFLICT (guid) DO NOTHING RETURNING id"
)


def insert_webhook(session: Session, webhook: Webhook) -> Filed:
    """Store it with the repo it is about, unless its guid is known. One that failed before is handled anew."""
    state = DeliveryState.IGNORED if webhook.ignored else DeliveryState.RECEIVED
    values = {
        "guid": webhook.guid,
        "forge_id": webhook.forge_id,
        "sender": webhook.sender,
        "event": webhook.event,
        "payload": webhook.payload,
        "digest": webhook.digest,
        "state": state.value,
        "reason": webhook.ignored,
        "received_at": webhook.received_at,
        "processed_at": webhook.received_at if webhook.ignored else None,
    }
    made = session.connection().execute(_INSERT, values).scalar()
    return Filed(int(made), state.value) if made is not None else _known(session, webhook)


def _known(session: Session, webhook: Webhook) -> Filed:
    delivery = delivery_by_guid(session, webhook.guid)
    assert delivery is not None and delivery.id is not None
    if webhook.digest and delivery.digest and webhook.digest != delivery.digest:
        return Filed(delivery.id, "differs")
    if delivery.state is not DeliveryState.FAILED:
        return Filed(delivery.id, "duplicate")
    delivery.state, delivery.tries = DeliveryState.RECEIVED, 0
    session.add(delivery)
    session.flush()
    return Filed(delivery.id, DeliveryState.RECEIVED.value)


def delivery_by_guid(session: Session, guid: str) -> Delivery | None:
    return session.exec(select(Delivery).where(Delivery.guid == guid)).first()


def delivery_by_id(session: Session, delivery_id: int) -> Delivery:
    delivery = session.get(Delivery, delivery_id)
    assert delivery is not None, f"delivery {delivery_id} is referred to and must exist"
    return delivery


def lanes_waiting(session: Session) -> dict[int | None, int]:
    """Of each repo (None: of none) that has deliveries which are not handled yet, the oldest one's id."""
    rows = session.exec(
        select(Delivery.repo_id, func.min(Delivery.id))
        .where(Delivery.state == DeliveryState.RECEIVED)
        .group_by(col(Delivery.repo_id))
        .order_by(func.min(Delivery.id))
    ).all()
    return {repo_id: oldest for repo_id, oldest in rows if oldest is not None}


# Built once: making the statement anew takes as long as running it, and it runs before every delivery.
_NEXT = (
    select(Delivery)
    .where(Delivery.state == DeliveryState.RECEIVED, col(Delivery.repo_id).is_not_distinct_from(bindparam("of_repo")))
    .order_by(col(Delivery.id))
    .limit(1)
)


def next_delivery(session: Session, repo_id: int | None) -> Delivery | None:
    """The oldest of one repo (None: of none) that is stored and not handled yet."""
    return session.exec(_NEXT, params={"of_repo": repo_id}).first()


# Nothing is loaded for it: a payload may have megabytes.
_END = text(
    "UPDATE deliveries SET state = :state, reason = :reason, processed_at = :now,"
    " repo_id = COALESCE(repo_id, :repo_id) WHERE id = :id"
)


def end_delivery(
    session: Session, delivery_id: int, state: DeliveryState, reason: str, now: float, repo_id: int | None
) -> None:
    """What became of it. `repo_id` is kept where none was known. The row must exist."""
    values = {"id": delivery_id, "state": state.value, "reason": reason, "now": now, "repo_id": repo_id}
    done = session.connection().execute(_END, values)
    assert done.rowcount == 1, f"delivery {delivery_id} is referred to and must exist"


def groups_of_delivery(session: Session, delivery_id: int) -> Sequence[Group]:
    return session.exec(select(Group).where(Group.delivery_id == delivery_id).order_by(col(Group.id))).all()


def failed_pushes(session: Session, repo_id: int) -> Sequence[Delivery]:
    """The newest pushes and merge groups of a repo that failed, oldest first; none that was filed again."""
    kind, event = col(Delivery.kind), col(Delivery.event)
    told = (kind == "push") | (event == "push") | event.startswith("merge_group")
    failed = (Delivery.repo_id == repo_id, Delivery.state == DeliveryState.FAILED, col(Delivery.replay_of).is_(None))
    newest = select(Delivery).where(told, *failed).order_by(col(Delivery.id).desc()).limit(_NEWEST)
    return session.exec(newest).all()[::-1]


def count_deliveries(session: Session, state: DeliveryState, since: float) -> int:
    """How many came since then and are in this state."""
    query = select(func.count()).where(Delivery.state == state, Delivery.received_at >= since)
    return session.exec(query).one()


def guids_known(session: Session, guids: Sequence[str]) -> set[str]:
    """Those of these that are in the inbox."""
    found: set[str] = set()
    for start in range(0, len(guids), 500):
        query = select(Delivery.guid).where(col(Delivery.guid).in_(guids[start : start + 500]))
        found.update(session.exec(query).all())
    return found


def newest_about_repos(session: Session) -> int:
    """The id of the newest delivery that says which repositories there are; 0 where there is none."""
    says = col(Delivery.event).startswith("installation") | col(Delivery.event).startswith("repository")
    return session.exec(select(func.max(Delivery.id)).where(says)).one() or 0


def forget_payloads(session: Session, before: float) -> int:
    """Of what was ignored before then only the line in the list stays; how many were let go."""
    done = session.connection().execute(
        update(Delivery)
        .where(
            col(Delivery.state) == DeliveryState.IGNORED,
            col(Delivery.processed_at) < before,
            col(Delivery.payload).is_not(None),
        )
        .values(payload=None)
    )
    return int(done.rowcount)
