"""What was last written to the forge, and what it refused to take."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlmodel import Session, col, delete, select

from dstack.server.failpoints import reach
from dstack.server.models import ForgeReport, OutboxMark, Repo, Run
from dstack.server.models.repo import GITHUB
from dstack.server.store.outbox import CHECK, NOTIFY, STATUS, VERDICT, clear_mark, mark_outdated
from dstack.wire.states import FINAL_STATES

_UNKNOWN_TO_THEM = 401


def report_of(session: Session, repo_id: int, kind: str, target: str) -> ForgeReport | None:
    return session.get(ForgeReport, (repo_id, kind, target))


def reports_of(session: Session, repo_id: int, kind: str, targets: Collection[str]) -> dict[str, ForgeReport]:
    """Target -> what was written about it."""
    rows = session.exec(
        select(ForgeReport).where(
            ForgeReport.repo_id == repo_id, ForgeReport.kind == kind, col(ForgeReport.target).in_(targets)
        )
    ).all()
    return {row.target: row for row in rows}


def begin_report(session: Session, repo_id: int, kind: str, target: str) -> bool:
    """Say that something is about to be made there. False when that was said before: then it may have been made
    already, by a try whose answer was lost, and is to be looked for first."""
    if session.get(ForgeReport, (repo_id, kind, target)) is not None:
        return False
    session.add(ForgeReport(repo_id=repo_id, kind=kind, target=target))
    return True


def note_intent(session: Session, repo_id: int, kind: str, target: str, digest: str, external_id: str) -> None:
    """Something is about to be added there that must not be added twice: `digest` says so until `note_sent`."""
    row = session.get(ForgeReport, (repo_id, kind, target)) or ForgeReport(repo_id=repo_id, kind=kind, target=target)
    row.digest, row.external_id = digest, external_id
    session.add(row)


def note_sent(
    session: Session, repo_id: int, kind: str, target: str, digest: str, now: float, *, external_id: str | None = None
) -> None:
    """The forge has it. `external_id` None keeps the one known."""
    reach("forge-told")
    row = session.get(ForgeReport, (repo_id, kind, target)) or ForgeReport(repo_id=repo_id, kind=kind, target=target)
    row.digest, row.sent_at, row.problem, row.answer = digest, now, "", None
    row.writes += 1
    if external_id is not None:
        row.external_id = external_id
    session.add(row)


def note_refused(
    session: Session, repo_id: int, kind: str, target: str, problem: str, answer: int | None = None
) -> None:
    """The forge does not take it, and asking again does not help: people are to see why."""
    row = session.get(ForgeReport, (repo_id, kind, target)) or ForgeReport(repo_id=repo_id, kind=kind, target=target)
    row.problem, row.answer = problem[:500], answer
    session.add(row)


def park(session: Session, mark: OutboxMark, problem: str, answer: int | None = None) -> None:
    """Give a mark up, and show why."""
    repo_id, target = split_target(mark)
    note_refused(session, repo_id, mark.kind, target, problem, answer)
    clear_mark(session, mark)


def finish(session: Session, mark: OutboxMark) -> None:
    """The mark was sent whole: it goes, and with it what was wrong before."""
    repo_id, target = split_target(mark)
    row = session.get(ForgeReport, (repo_id, mark.kind, target))
    if row is not None and row.problem:
        row.problem, row.answer = "", None
        session.add(row)
    clear_mark(session, mark)


def tell_checks_again(session: Session, repo_id: int, sha: str, now: float, *, run_id: int | None = None) -> None:
    """The forge waits for news of a commit's checks, or of that of one run, since somebody asked for them again: they
    are written once more, changed or not. Their remarks stay counted, so that none is added twice."""
    ids = (
        session.exec(select(Run.id).where(Run.repo_id == repo_id, Run.sha == sha)).all() if run_id is None else [run_id]
    )
    targets = {str(one): str(one) for one in ids}
    if run_id is None:
        targets[f"config:{sha}"] = f"config:{sha}"
    if ids:
        targets[f"commit:{sha}"] = str(ids[-1])  # one for all of them is marked by any
    for report in reports_of(session, repo_id, CHECK, targets).values():
        _, colon, shown = report.digest.partition(":")
        report.digest = f"{colon}{shown}" if colon else report.digest
        session.add(report)
        mark_outdated(session, CHECK, f"{repo_id}:{targets[report.target]}", now)


def parked(session: Session, repo_id: int | None = None) -> Sequence[ForgeReport]:
    """What the forge did not take, with the reason in `problem`."""
    query = select(ForgeReport).where(ForgeReport.problem != "").order_by(col(ForgeReport.repo_id))
    return session.exec(query if repo_id is None else query.where(ForgeReport.repo_id == repo_id)).all()


def unpark(session: Session, repo_ids: Collection[int], now: float) -> int:
    """Try again all that these repositories did not take: the App's key or rights have changed. How many there were.
    The reasons stay until it worked."""
    return _mark_again(session, [row for repo_id in repo_ids for row in parked(session, repo_id)], now)


def unpark_unsigned(session: Session, repo_ids: Collection[int], now: float) -> int:
    """Try again what these repositories did not take because the forge did not know us: it does now."""
    rows = [row for repo_id in repo_ids for row in parked(session, repo_id) if row.answer == _UNKNOWN_TO_THEM]
    return _mark_again(session, rows, now)


def _mark_again(session: Session, rows: Sequence[ForgeReport], now: float) -> int:
    for row in rows:
        # A status is parked by commit and context, and rendered by commit.
        target = row.target.partition(":")[0] if row.kind == STATUS else row.target
        mark_outdated(session, row.kind, f"{row.repo_id}:{target}", now)
    return len(rows)


def forget_reports(session: Session, run_ids: Collection[int]) -> None:
    """These runs are about to be deleted: what was told of them goes too, and of commits that no run is left of. An id
    may be given to a new run, whose check is another one."""
    of_runs = (CHECK, NOTIFY, VERDICT)
    ids = [str(run_id) for run_id in run_ids]
    commits = session.exec(select(Run.repo_id, Run.sha).where(col(Run.id).in_(run_ids)).distinct()).all()
    for repo_id in {repo_id for repo_id, _ in commits}:
        marks = [f"{repo_id}:{run_id}" for run_id in ids]
        session.exec(delete(OutboxMark).where(col(OutboxMark.kind).in_(of_runs), col(OutboxMark.target).in_(marks)))
        session.exec(
            delete(ForgeReport).where(
                col(ForgeReport.repo_id) == repo_id,
                col(ForgeReport.kind).in_(of_runs),
                col(ForgeReport.target).in_(ids),
            )
        )
    left = select(Run.repo_id, Run.sha).where(
        col(Run.sha).in_({sha for _, sha in commits}), col(Run.id).not_in(run_ids)
    )
    for repo_id, sha in set(commits) - set(session.exec(left).all()):
        forget_statuses(session, repo_id, sha)


def forget_statuses(session: Session, repo_id: int, sha: str) -> None:
    """Nothing is told of this commit any more: its statuses, and what was wrong with them, are forgotten."""
    target = col(ForgeReport.target)
    session.exec(
        delete(ForgeReport).where(
            col(ForgeReport.repo_id) == repo_id,
            col(ForgeReport.kind) == STATUS,
            (target == sha) | ((target >= f"{sha}:") & (target < f"{sha};")),
        )
    )


def split_target(mark: OutboxMark) -> tuple[int, str]:
    """The repo's id, and the rest of the target."""
    repo_id, _, rest = mark.target.partition(":")
    return int(repo_id), rest


def installations_of_repos(session: Session) -> dict[int, int]:
    """Repo id -> the installation through which our App acts there."""
    rows = session.exec(
        select(Repo.id, Repo.installation_id).where(Repo.forge == GITHUB, col(Repo.installation_id).is_not(None))
    ).all()
    return {repo_id: installation for repo_id, installation in rows if repo_id is not None and installation is not None}


def commits_with_an_end(session: Session, shas: Collection[str]) -> set[str]:
    """Those of these commits that have a run that ended."""
    if not shas:
        return set()
    return set(session.exec(select(Run.sha).where(col(Run.sha).in_(shas), col(Run.state).in_(FINAL_STATES))).all())


def mark_pending_again(session: Session, now: float) -> int:
    """Statuses that we left pending on commits where nothing runs any more are rendered anew; how many commits."""
    open_shas = select(Run.sha).where(col(Run.state).not_in(FINAL_STATES))
    rows = session.exec(
        select(ForgeReport.repo_id, ForgeReport.target).where(
            ForgeReport.kind == STATUS, col(ForgeReport.digest).startswith("pending:")
        )
    ).all()
    running = set(session.exec(open_shas).all())
    left = {(repo_id, target.partition(":")[0]) for repo_id, target in rows}
    for repo_id, sha in left:
        if sha not in running:
            mark_outdated(session, STATUS, f"{repo_id}:{sha}", now)
    return len(left)
