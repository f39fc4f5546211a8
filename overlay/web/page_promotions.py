"""Promotions on the pages for people: how they stand, in words, and where all of it is read."""

from typing import Final
from urllib.parse import quote

from overlay.domain.promotion import FileState, Outcome
from overlay.domain.quantities import minute_words
from overlay.domain.to_wire_promotions import IS_RUNNING, IS_WAITING
from overlay.domain.wire import API, ReleasePromotionView
from overlay.web.models import Link, PromotionModel
from overlay.web.site import Site

PROMOTIONS: Final = {
    IS_RUNNING: "The files below are on their way upstream; until that ended none of them is replaced or withdrawn.",
    IS_WAITING: (
        "It stopped before all of the files below were live; until it has ended none of them is replaced or withdrawn. "
        "Repeat the command that began it, or give it up:"
    ),
    Outcome.LIVE.value: "Upstream has all of the files below.",
    Outcome.ABANDONED.value: "It was given up; what of the files below is live stays so, the others are only staged.",
}
"""Each state of a promotion under way in words; total."""

FILE_STATES: Final = {
    FileState.PLANNED.value: "planned: nothing of it was sent yet",
    FileState.PUSHING.value: "pushing: it may have been sent",
    FileState.PUSHED.value: "pushed: upstream accepted it",
    FileState.LIVE.value: "live: upstream lists it",
}
"""How far a file came, in words; total."""


def promotion_link(site: Site, view: ReleasePromotionView) -> Link:
    """Return where a release's promotion is read: its receipt once it ended."""
    return Link(f"Its last promotion ({view.state}, by {view.who})", _href(site, view))


def promotion_model(site: Site, view: ReleasePromotionView, quoted: str) -> PromotionModel:
    """Form what a release's page says of its promotion; `quoted` is the release, fit for a shell."""
    return PromotionModel(
        state=view.state,
        words=PROMOTIONS.get(view.state, view.state),
        who=view.who,
        since=view.since,
        since_words=minute_words(view.since),
        abandon=f"overlay promote --abandon {quoted}" if view.state == IS_WAITING else "",
        target=view.target,
        others=", ".join(view.others),
        ended=view.ended_at or "",
        ended_words="" if view.ended_at is None else minute_words(view.ended_at),
        ended_by=view.ended_by or "",
        href=_href(site, view),
        files=tuple((file.filename, FILE_STATES.get(file.state, file.state)) for file in view.files),
    )


def _href(site: Site, view: ReleasePromotionView) -> str:
    return f"{site.prefix}{API}/promotions/{quote(view.id, safe='')}"
