"""python -m shared.cli: what the launcher ./baton runs."""

from shared.cli.root import main

if __name__ == "__main__":
    main()
