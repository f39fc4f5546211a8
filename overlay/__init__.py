"""An HTTP index in front of PyPI: every live project plus what is staged."""

__version__ = "0.1.0"
