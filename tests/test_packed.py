"""Packed files are found in a wheel's layout and in a checkout's."""

from pathlib import Path

import pytest

from overlay.packed import packed


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "overlay"
    folder.mkdir()
    return folder


def test_inside_the_package_is_found_first(package: Path) -> None:
    """As in a wheel, where a neighbour in site-packages may have the same name."""
    (package / "config.toml").write_text("ours")
    (package.parent / "config.toml").write_text("another's")
    assert packed("config.toml", package=package).read_text() == "ours"


def test_beside_the_package_is_found_in_a_checkout(package: Path) -> None:
    (package.parent / "templates").mkdir()
    assert packed("templates", package=package) == package.parent / "templates"


def test_the_error_names_both_places(package: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        packed("config.toml", package=package)
    assert str(package / "config.toml") in str(caught.value)
    assert str(package.parent / "config.toml") in str(caught.value)


@pytest.mark.parametrize("name", ["config.toml", "templates"])
def test_the_files_that_the_wheel_packs_are_there(name: str) -> None:
    assert packed(name).exists()
