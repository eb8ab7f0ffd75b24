"""`python -m aegispay`: the command line without an installed script."""

from aegispay.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
