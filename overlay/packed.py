"""Finds the files that are packed beside the code: config.toml and the templates.

In the repository they stand at the top, where people look for them; the wheel carries them inside the package
(`force-include` in pyproject.toml). An editable install runs from the checkout, so both places are asked.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def packed(name: str, *, package: Path = PACKAGE) -> Path:
    """Return the path of a packed file or folder: inside the package, else beside it in the checkout.

    Raises FileNotFoundError, naming both places: the installation is broken, no setting mends it.
    """
    places = (package / name, package.parent / name)
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(
        f"{name} came with neither the package ({places[0]}) nor a checkout ({places[1]}); install overlay-index again."
    )
