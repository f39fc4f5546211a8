"""Run the command line as `python -m overlay`."""

from overlay.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
