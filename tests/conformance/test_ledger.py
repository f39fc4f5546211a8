"""Every StageLedger shows what was staged, in the order of serials, at one revision per state."""

from dataclasses import replace

import pytest

from overlay.domain.errors import FileExists, LedgerBusy, LedgerRebuilt, LedgerUnavailable
from overlay.domain.events import EventKind
from overlay.domain.ledger_port import Ending, StageLedger
from overlay.domain.names import MAIN, NOTHING_STAGED, NormalizedName, Serial, StageId, UploadId
from overlay.domain.promotion import PromotionId
from overlay.domain.stage import Admitted, AlreadyStaged, Gone, Reason, Staged, StagedFile
from tests.ledgers import NOW_US, entry, stage
from tests.staged import DEMO, GIVEN_UP, claim_for, freeze_of, staged_file, token, upload_of

OTHER_STAGE = StageId("flag-day")
WITHDRAWN = Ending(Reason.WITHDRAWN, NOW_US + 5, "bob")


async def files(ledger: StageLedger, within: StageId = MAIN) -> tuple[StagedFile, ...]:
    (snapshot,) = await ledger.snapshot(DEMO, (within,))
    return snapshot.files


async def test_a_ledger_that_is_not_loaded_answers_nothing(fresh: StageLedger) -> None:
    """Promise 2: what is staged is unknown, so every question and every change is refused."""
    ledger = fresh
    file = staged_file()
    for ask in (
        lambda: ledger.revisions(DEMO, (MAIN,)),
        lambda: ledger.snapshot(DEMO, (MAIN,)),
        lambda: ledger.entries(DEMO, (file.upload_id,)),
        ledger.index,
        lambda: ledger.latest(MAIN, most_projects=1, most_files=1),
        lambda: ledger.names((MAIN,)),
        ledger.totals,
        lambda: ledger.bytes_staged_by("t1"),
        lambda: ledger.spend("t1", per_minute=1),
        lambda: ledger.admit(claim_for(file)),
        lambda: ledger.stage(file, replace=True, epoch=""),
        lambda: ledger.forget(DEMO, [file.upload_id], WITHDRAWN),
        lambda: ledger.freeze(freeze_of(file, since_us=NOW_US, until_us=NOW_US)),
        lambda: ledger.renew(PromotionId("f" * 32), fence=1, until_us=NOW_US),
        lambda: ledger.overtake(PromotionId("f" * 32)),
        lambda: ledger.thaw(PromotionId("f" * 32), GIVEN_UP),
        ledger.freezes,
        lambda: ledger.events(0),
        lambda: ledger.token("x"),
        ledger.tokens,
        lambda: ledger.put_token(token()),
        lambda: ledger.drop_token("x"),
    ):
        with pytest.raises(LedgerUnavailable):
            await ask()


async def test_nothing_staged_is_the_empty_revision(ledger: StageLedger) -> None:
    """The empty string is the one revision that means something."""
    assert await ledger.revisions(DEMO, (MAIN, OTHER_STAGE)) == (NOTHING_STAGED, NOTHING_STAGED)
    assert await files(ledger) == ()


async def test_a_staged_file_is_shown_under_a_new_revision(ledger: StageLedger) -> None:
    """Revision, snapshot, entry, index, names and bytes agree."""
    file = staged_file()
    await stage(ledger, file)
    (revision,) = await ledger.revisions(DEMO, (MAIN,))
    (snapshot,) = await ledger.snapshot(DEMO, (MAIN,))
    assert revision != NOTHING_STAGED
    assert (snapshot.revision, snapshot.files) == (revision, (file,))
    assert await entry(ledger, file.upload_id) == file
    assert (await ledger.index()).files == (file,)
    assert (await ledger.names((MAIN,)))[1] == (DEMO,)
    assert (await ledger.totals()).size_bytes == file.size_bytes


async def test_every_change_has_a_revision_of_its_own(ledger: StageLedger) -> None:
    """Also when the same state comes back: a cached page of an older state is never taken for this one."""
    seen = set()
    for number in range(1, 6):
        await stage(ledger, staged_file(number))
        seen.add((await ledger.revisions(DEMO, (MAIN,)))[0])
        await ledger.forget(DEMO, [upload_of(number)], WITHDRAWN)
        assert await ledger.revisions(DEMO, (MAIN,)) == (NOTHING_STAGED,)
    assert len(seen) == 5


async def test_stages_and_projects_do_not_touch(ledger: StageLedger) -> None:
    """A change in one leaves the revision of every other alone."""
    await stage(ledger, staged_file(1))
    before = await ledger.revisions(DEMO, (MAIN,))
    await stage(ledger, staged_file(2, stage=OTHER_STAGE))
    await stage(ledger, staged_file(3, project="other", filename="other-1.0.tar.gz"))
    assert await ledger.revisions(DEMO, (MAIN,)) == before
    assert len(await files(ledger)) == len(await files(ledger, OTHER_STAGE)) == 1
    assert (await ledger.names((MAIN, OTHER_STAGE)))[1] == (DEMO, NormalizedName("other"))


async def test_files_of_a_snapshot_are_in_the_order_of_their_names(ledger: StageLedger) -> None:
    """So that pages of the same files have the same bytes."""
    names = ["demo-2.0.tar.gz", "demo-1.0.tar.gz", "demo-1.5.tar.gz"]
    for number, name in enumerate(names, 1):
        await stage(ledger, staged_file(number, filename=name))
    assert [file.filename for file in await files(ledger)] == sorted(names)


async def test_staging_twice_is_staging_once(ledger: StageLedger) -> None:
    """Idempotent by upload id: a lost answer may be repeated."""
    file = staged_file()
    await stage(ledger, file)
    before = await ledger.revisions(DEMO, (MAIN,))
    assert (await stage(ledger, file)).ended is None
    assert await ledger.revisions(DEMO, (MAIN,)) == before
    assert (await ledger.totals()).size_bytes == file.size_bytes


async def test_serials_increase_and_never_lie_below_the_clock(ledger: StageLedger) -> None:
    """Strictly, also within one microsecond, and above everything that was loaded."""
    first = await ledger.admit(claim_for(staged_file(1)))
    second = await ledger.admit(claim_for(staged_file(2)))
    assert isinstance(first, Admitted)
    assert isinstance(second, Admitted)
    assert NOW_US <= first.serial < second.serial
    await ledger.load((staged_file(3, serial=NOW_US * 2),), ())
    third = await ledger.admit(claim_for(staged_file(4, content="other")))
    assert isinstance(third, Admitted)
    assert third.serial > NOW_US * 2


async def test_admitting_changes_nothing_that_readers_see(ledger: StageLedger) -> None:
    """An upload that dies between admit and stage was never there."""
    await ledger.admit(claim_for(staged_file()))
    assert await ledger.revisions(DEMO, (MAIN,)) == (NOTHING_STAGED,)
    assert (await ledger.events(0)).events == ()


async def test_the_same_bytes_are_already_staged(ledger: StageLedger) -> None:
    """A repeat of an upload changes nothing, whatever its rights."""
    file = staged_file(1)
    await stage(ledger, file)
    assert await ledger.admit(claim_for(staged_file(2), replace=False)) == AlreadyStaged(file)


async def test_other_bytes_need_the_right_to_replace(ledger: StageLedger) -> None:
    """Refused at admit, and again at stage, where a racing upload may have come first; readers see no change."""
    file = staged_file(1)
    await stage(ledger, file)
    other = staged_file(2, content="other")
    with pytest.raises(FileExists) as refused:
        await ledger.admit(claim_for(other, replace=False))
    assert refused.value.held_sha256 == file.sha256
    before, events = await ledger.revisions(DEMO, (MAIN,)), await ledger.events(0)
    with pytest.raises(FileExists):
        await stage(ledger, other, replace=False)
    assert await files(ledger) == (file,)
    assert await ledger.revisions(DEMO, (MAIN,)) == before
    assert await ledger.events(0) == events


async def test_what_was_refused_has_ended(ledger: StageLedger) -> None:
    """Its record may outlive the refusal; so it is not staged either once the name is free, by whatever right."""
    file, other = staged_file(1), staged_file(2, content="other")
    await stage(ledger, file)
    with pytest.raises(FileExists) as first:
        await stage(ledger, other, replace=False)
    for may_replace in (False, True):
        with pytest.raises(FileExists) as again:
            await stage(ledger, other, replace=may_replace)
        assert str(again.value) == str(first.value), "a repeat is answered otherwise"
    refused = Ending(Reason.REFUSED, other.staged_at_us, other.who)
    gone = Gone(other, refused.reason, refused.at_us, refused.who)
    assert await entry(ledger, other.upload_id) == gone
    await ledger.forget(DEMO, [file.upload_id], WITHDRAWN)
    events = await ledger.events(0)
    for may_replace in (False, True):
        with pytest.raises(FileExists, match="staged here no more"):
            await stage(ledger, other, replace=may_replace)
    assert await ledger.forget(DEMO, [other.upload_id], refused) == (gone,)
    assert await ledger.events(0) == events
    assert await files(ledger) == ()


async def test_who_was_refused_may_send_it_again(ledger: StageLedger) -> None:
    """What ended is the upload, not its bytes: by another upload they are staged once the name is free."""
    file, other = staged_file(1), staged_file(2, content="other")
    await stage(ledger, file)
    with pytest.raises(FileExists):
        await stage(ledger, other, replace=False)
    await ledger.forget(DEMO, [file.upload_id], WITHDRAWN)
    again = replace(other, upload_id=upload_of(3))
    assert isinstance(await ledger.admit(claim_for(again, replace=False)), Admitted)
    assert await stage(ledger, again, replace=False) == Staged(None)
    assert await files(ledger) == (again,)


async def test_replacing_ends_the_older_file(ledger: StageLedger) -> None:
    """The older one is returned for the history, and known as gone."""
    old, new = staged_file(1), staged_file(2, content="other")
    await stage(ledger, old)
    ended = (await stage(ledger, new)).ended
    assert ended == Gone(old, Reason.REPLACED, new.staged_at_us, new.who)
    assert await files(ledger) == (new,)
    assert await entry(ledger, old.upload_id) == ended


async def test_the_greatest_serial_wins_whatever_the_order(ledger: StageLedger) -> None:
    """An upload that was overtaken ends at once; the winner stays and the revision with it."""
    winner, late = staged_file(1, serial=20), staged_file(2, serial=10, content="late")
    await stage(ledger, winner)
    before = await ledger.revisions(DEMO, (MAIN,))
    ended = (await stage(ledger, late)).ended
    assert ended is not None
    assert ended.file == late
    assert await files(ledger) == (winner,)
    assert await ledger.revisions(DEMO, (MAIN,)) == before


@pytest.mark.parametrize("greater_first", [True, False])
async def test_of_one_serial_the_greater_upload_id_wins_whatever_the_order(
    ledger: StageLedger, *, greater_first: bool
) -> None:
    """Two lives of a ledger may give one serial twice; ids are compared as bytes, in every locale."""
    greater = replace(staged_file(1, serial=10, content="x"), upload_id=UploadId("ab" + "0" * 30))
    lesser = replace(staged_file(2, serial=10, content="y"), upload_id=UploadId("aa" + "f" * 30))
    first, second = (greater, lesser) if greater_first else (lesser, greater)
    await stage(ledger, first)
    ended = (await stage(ledger, second)).ended
    assert ended is not None
    assert ended.file == lesser
    assert await files(ledger) == (greater,)


async def test_racing_uploads_of_the_same_bytes_keep_the_first(ledger: StageLedger) -> None:
    """The second ends; what readers see does not change."""
    first, second = staged_file(1), staged_file(2)
    await stage(ledger, first, replace=False)
    ended = (await stage(ledger, second, replace=False)).ended
    assert ended is not None
    assert ended.file == second
    assert await files(ledger) == (first,)


async def test_what_ended_is_never_staged_again(ledger: StageLedger) -> None:
    """A repeat of `stage` after a withdrawal does not bring the file back."""
    file = staged_file()
    await stage(ledger, file)
    assert await ledger.forget(DEMO, [file.upload_id], WITHDRAWN) == (Gone(file, Reason.WITHDRAWN, NOW_US + 5, "bob"),)
    await stage(ledger, file)
    assert await files(ledger) == ()
    assert (await ledger.totals()).size_bytes == 0


async def test_a_file_that_was_admitted_in_another_life_is_not_staged(ledger: StageLedger) -> None:
    """It may have ended before the rebuild, which forgot that; nothing changed, also when other bytes hold the name."""
    file, other = staged_file(1), staged_file(2, content="other")
    admitted = await ledger.admit(claim_for(file))
    assert isinstance(admitted, Admitted)
    assert admitted.epoch == (await ledger.state()).epoch
    for loaded in ((), (other,)):
        await ledger.load(loaded, ())
        for may_replace in (True, False):
            with pytest.raises(LedgerRebuilt):
                await ledger.stage(file, replace=may_replace, epoch=admitted.epoch)
        assert await files(ledger) == loaded
        assert await entry(ledger, file.upload_id) is None
        assert (await ledger.events(0)).events == ()


async def test_a_file_that_a_rebuild_found_is_known_to_whoever_stages_it(ledger: StageLedger) -> None:
    """Its record was read: the upload that was about to stage it has what it wants; so has one that ended since."""
    file = staged_file()
    admitted = await ledger.admit(claim_for(file))
    assert isinstance(admitted, Admitted)
    await ledger.load((file,), ())
    assert await ledger.stage(file, replace=True, epoch=admitted.epoch) == Staged(None)
    (gone,) = await ledger.forget(DEMO, [file.upload_id], WITHDRAWN)
    assert await ledger.stage(file, replace=True, epoch=admitted.epoch) == Staged(gone)
    assert await files(ledger) == ()


async def test_forgetting_passes_over_what_it_does_not_know(ledger: StageLedger) -> None:
    """Unknown ids, ids that ended, and ids of another project are no errors and end nothing."""
    file = staged_file()
    await stage(ledger, file)
    assert await ledger.forget(NormalizedName("other"), [file.upload_id], WITHDRAWN) == ()
    assert await ledger.forget(DEMO, [upload_of(99)], WITHDRAWN) == ()
    assert await files(ledger) == (file,)


async def test_an_entry_is_found_under_its_own_project_only(ledger: StageLedger) -> None:
    """A URL with another project's name finds nothing, whether the upload is staged or ended."""
    for number in (1, 2):
        await stage(ledger, staged_file(number, content=str(number)))
    assert await ledger.entries(NormalizedName("other"), (upload_of(1), upload_of(2))) == (None, None)


async def test_entries_come_in_the_order_asked_for(ledger: StageLedger) -> None:
    """Those that are staged, those that ended, and those that nobody knows; also none, and hundreds of them."""
    assert await ledger.entries(DEMO, ()) == ()
    files = [staged_file(number, filename=f"demo-{number}.tar.gz") for number in range(1, 251)]
    await ledger.load(files, ())
    (gone,) = await ledger.forget(DEMO, [upload_of(1)], WITHDRAWN)
    asked = [upload_of(999), upload_of(2), upload_of(1)]
    assert await ledger.entries(DEMO, asked) == (None, files[1], gone)
    assert await ledger.entries(DEMO, [file.upload_id for file in files]) == (gone, *files[1:])


async def test_the_names_revision_changes_with_the_set_only(ledger: StageLedger) -> None:
    """A second file of a project leaves the project list as it is."""
    await stage(ledger, staged_file(1))
    one, _ = await ledger.names((MAIN,))
    await stage(ledger, staged_file(2, filename="demo-1.0.tar.gz"))
    assert (await ledger.names((MAIN,)))[0] == one
    await stage(ledger, staged_file(3, project="other", filename="other-1.0.tar.gz"))
    assert (await ledger.names((MAIN,)))[0] != one


async def test_loading_replaces_everything(ledger: StageLedger) -> None:
    """A rebuild is the whole truth; what only the index knew is gone."""
    await stage(ledger, staged_file(1))
    await ledger.put_token(token(label="old"))
    loaded = staged_file(2, filename="demo-2.0.tar.gz")
    await ledger.load((loaded,), (token(label="new"),))
    assert await files(ledger) == (loaded,)
    assert [one.label for one in await ledger.tokens()] == ["new"]


async def test_a_load_may_be_large(ledger: StageLedger) -> None:
    """More files, projects and tokens than go out at once arrive whole; what was there before is gone."""
    await stage(ledger, staged_file(1, filename="demo-9.tar.gz"))
    files = [
        staged_file(number, project=f"p{number % 7}", filename=f"p{number % 7}-{number}.tar.gz")
        for number in range(10, 1010)
    ]
    tokens = [token(label=str(number)) for number in range(450)]
    await ledger.load(files, tokens)
    assert set((await ledger.index()).files) == set(files)
    assert len(await ledger.tokens()) == 450
    assert (await ledger.totals()).size_bytes == sum(file.size_bytes for file in files)
    (snapshot,) = await ledger.snapshot(NormalizedName("p3"), (MAIN,))
    assert list(snapshot.files) == sorted(
        (file for file in files if file.project == "p3"), key=lambda file: file.filename
    )
    assert await ledger.revisions(DEMO, (MAIN,)) == (NOTHING_STAGED,)


async def test_a_load_is_a_new_life(ledger: StageLedger) -> None:
    """The epoch says so, and the state asks for a reconcile: what the documents lacked while they were read."""
    async with ledger.lead() as lead:
        await lead.reconciled((await ledger.state()).server, NOW_US)
    before = await ledger.state()
    await ledger.load((), ())
    after = await ledger.state()
    assert "" not in {before.epoch, after.epoch}
    assert before.epoch != after.epoch
    assert (await ledger.events(0)).epoch == after.epoch
    assert (after.reconciled_server, after.reconciled_at_us) == ("", 0)


async def test_the_state_can_be_read_before_the_ledger_is_loaded(fresh: StageLedger) -> None:
    """Whoever looks after the ledger sees that it needs a rebuild."""
    state = await fresh.state()
    assert (state.epoch, state.reconciled_server) == ("", "")
    assert state.server


async def test_one_leads_at_a_time(ledger: StageLedger) -> None:
    """The second is told so at once; after the end of the first, the lead is free."""
    async with ledger.lead():
        with pytest.raises(LedgerBusy):
            async with ledger.lead():
                pass
    async with ledger.lead() as lead:
        await lead.load((staged_file(),), ())
    assert await files(ledger) == (staged_file(),)


async def test_a_failed_lead_is_free_again(ledger: StageLedger) -> None:
    """A rebuild that could not read a document blocks nobody."""
    with pytest.raises(ZeroDivisionError):
        async with ledger.lead():
            raise ZeroDivisionError
    async with ledger.lead() as lead:
        await lead.load((), ())


async def test_a_reconcile_is_remembered(ledger: StageLedger) -> None:
    """So that one worker's reconcile is enough for all."""
    async with ledger.lead() as lead:
        await lead.reconciled("another-server", NOW_US + 7)
    state = await ledger.state()
    assert (state.reconciled_server, state.reconciled_at_us) == ("another-server", NOW_US + 7)


async def test_serials_lie_above_everything_staged(ledger: StageLedger) -> None:
    """Also above what a reconcile staged: a host whose clock runs ahead had given it."""
    await stage(ledger, staged_file(1, serial=NOW_US * 2))
    admitted = await ledger.admit(claim_for(staged_file(2, content="other")))
    assert isinstance(admitted, Admitted)
    assert admitted.serial > NOW_US * 2


async def test_a_repeated_replacement_answers_the_same(ledger: StageLedger) -> None:
    """The first answer may be lost, and the history of what was replaced is owed all the same."""
    await stage(ledger, staged_file(1))
    new = staged_file(2, content="other")
    first = await stage(ledger, new)
    assert first.ended is not None
    assert await stage(ledger, new) == first
    assert [event.number for event in (await ledger.events(0)).events] == [1, 2, 3]


async def test_a_repeated_withdrawal_answers_the_same(ledger: StageLedger) -> None:
    """Whoever repeats the very same ending learns what ended; another one ends nothing."""
    file = staged_file()
    await stage(ledger, file)
    first = await ledger.forget(DEMO, [file.upload_id], WITHDRAWN)
    assert await ledger.forget(DEMO, [file.upload_id], WITHDRAWN) == first
    assert await ledger.forget(DEMO, [file.upload_id], Ending(Reason.WITHDRAWN, NOW_US + 6, "bob")) == ()
    assert await ledger.forget(NormalizedName("other"), [file.upload_id], WITHDRAWN) == ()
    assert len((await ledger.events(0)).events) == 2


async def test_forgetting_reaches_several_stages(ledger: StageLedger) -> None:
    """Uploads are named without their stages; each ends in its own."""
    one, two = staged_file(1), staged_file(2, stage=OTHER_STAGE)
    await stage(ledger, one)
    await stage(ledger, two)
    ended = await ledger.forget(DEMO, [two.upload_id, one.upload_id], WITHDRAWN)
    assert [gone.file for gone in ended] == [two, one]
    assert await ledger.revisions(DEMO, (MAIN, OTHER_STAGE)) == (NOTHING_STAGED, NOTHING_STAGED)
    assert (await ledger.names((MAIN, OTHER_STAGE)))[1] == ()
    assert (await ledger.totals()).size_bytes == 0


async def test_what_is_stored_comes_back_to_the_letter(ledger: StageLedger) -> None:
    """Names, labels and numbers of any kind pass through whatever the ledger is made of."""
    odd = 'li\ne "quoted" \\ %s \x00 ü 漢 {tag} \u2028'
    file = staged_file(1, filename=f"demo-{odd}.whl", who=odd, serial=2**53 - 2)
    await stage(ledger, file)
    assert await files(ledger) == (file,)
    ended = (await stage(ledger, staged_file(2, filename=file.filename, content="x", serial=2**53 - 1))).ended
    assert ended is not None
    assert ended.file == file
    ending = Ending(Reason.WITHDRAWN, NOW_US, odd)
    assert (await ledger.forget(DEMO, [upload_of(2)], ending))[0].who == odd
    assert (await ledger.events(0)).events[0].filename == file.filename
    await ledger.put_token(token(label=odd))
    assert [one.label for one in await ledger.tokens()] == [odd]


async def test_events_tell_each_change_once(ledger: StageLedger) -> None:
    """In order, and from any number on."""
    await stage(ledger, staged_file(1))
    await stage(ledger, staged_file(2, content="other"))
    await ledger.forget(DEMO, [upload_of(2)], WITHDRAWN)
    feed = await ledger.events(0)
    kinds = [event.kind for event in feed.events]
    assert kinds == [EventKind.STAGED, EventKind.REPLACED, EventKind.STAGED, EventKind.WITHDRAWN]
    assert [event.number for event in feed.events] == [1, 2, 3, 4]
    assert (await ledger.events(3)).events == feed.events[3:]


async def test_the_feed_says_where_it_was_cut(ledger: StageLedger) -> None:
    """The feed is recent, not endless, and does not hide it."""
    for number in range(1, 1502):
        await stage(ledger, staged_file(number, filename=f"demo-{number}.tar.gz"))
    feed = await ledger.events(0)
    assert feed.cut_before == feed.events[0].number > 1
    assert feed.events[-1].number == 1501


async def test_tokens_come_and_go(ledger: StageLedger) -> None:
    """Found by the hash of their text, dropped by id, and dropping twice is fine."""
    one = token(label="one")
    await ledger.put_token(one)
    assert await ledger.token(one.sha256) == one
    await ledger.put_token(one)
    assert await ledger.tokens() == (one,)
    assert await ledger.token("0" * 64) is None
    await ledger.drop_token(one.id)
    await ledger.drop_token(one.id)
    assert await ledger.token(one.sha256) is None
    assert await ledger.tokens() == ()


async def test_a_serial_is_a_whole_number(ledger: StageLedger) -> None:
    """Records hold it as JSON; 2**53 would be passed in the year 2255."""
    admitted = await ledger.admit(claim_for(staged_file()))
    assert isinstance(admitted, Admitted)
    assert isinstance(admitted.serial, int)
    assert Serial(admitted.serial) < 2**53


async def test_the_same_bytes_by_a_stronger_grant_replace(ledger: StageLedger) -> None:
    """What `*` staged hides beside foreign files upstream; brought again by right, it must be shown. No `replace`."""
    weak, strong = staged_file(1, grant="*"), staged_file(2, grant="demo")
    await stage(ledger, weak)
    assert isinstance(await ledger.admit(claim_for(strong, replace=False)), Admitted)
    ended = (await stage(ledger, strong, replace=False)).ended
    assert ended is not None
    assert ended.file == weak
    assert await files(ledger) == (strong,)


@pytest.mark.parametrize(("held", "sent"), [("*", "*"), ("demo", "*"), ("demo-*", "admin")])
async def test_the_same_bytes_by_a_grant_that_shows_no_more_change_nothing(
    ledger: StageLedger, held: str, sent: str
) -> None:
    """Only `*` is ever hidden, so only what `*` staged has something to gain."""
    first, second = staged_file(1, grant=held), staged_file(2, grant=sent)
    await stage(ledger, first)
    assert await ledger.admit(claim_for(second)) == AlreadyStaged(first)
    assert (await stage(ledger, second)).ended is not None
    assert await files(ledger) == (first,)


async def test_a_stronger_grant_with_a_smaller_serial_comes_too_late(ledger: StageLedger) -> None:
    """The greatest serial wins, as in a rebuild; its uploader may ask again."""
    weak, strong = staged_file(1, serial=20, grant="*"), staged_file(2, serial=10, grant="demo")
    await stage(ledger, weak)
    ended = (await stage(ledger, strong)).ended
    assert ended is not None
    assert ended.file == strong
    assert await files(ledger) == (weak,)
