"""`python -m jobs`: the same program as `slotcar`."""

from jobs.cli import main

if __name__ == "__main__":
    main()
