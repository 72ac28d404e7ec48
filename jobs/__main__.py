"""`python -m jobs`: the same program as `slotcar`; it too runs nothing that lies in the working folder."""

import os
import sys

if __name__ == "__main__":
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()) and sys.path[0] != root:
        del sys.path[0]  # where `python -m` has put the working folder
    sys.path.insert(0, root)
    from lstm_core.own_packages import find_own_first

    sys.path.remove(root)
    find_own_first()
    from jobs.cli import main

    main()
