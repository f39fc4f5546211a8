"""Processes that share a folder on local disk each have one of their own, and none keeps what a dead one spooled."""

from pathlib import Path

from overlay.storage.files import empty_left_spools, empty_spool, own_folder


def test_a_dead_processs_spool_is_emptied_and_a_living_ones_is_not(tmp_path: Path) -> None:
    """Whichever number the next process gets; a lock that is held says that its holder lives."""
    first, first_lock = own_folder(tmp_path)
    second, second_lock = own_folder(tmp_path)
    for folder in (first, second):
        (empty_spool(folder) / "upload").write_text("bytes")
    second_lock.release()
    empty_left_spools(tmp_path)
    assert (first / "spool" / "upload").exists()
    assert not (second / "spool").exists()
    again, again_lock = own_folder(tmp_path)
    assert again == second
    again_lock.release()
    first_lock.release()
