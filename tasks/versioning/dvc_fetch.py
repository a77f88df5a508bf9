"""Fetches files by their md5 from DVC's default remote into its cache, in a separate process.

DVC's own commands can only fetch the recorded version of the workspace, or all recorded versions.

    python -m tasks.versioning.dvc_fetch < md5s
"""

import sys


def main() -> None:
    """Fetch the md5s on standard input, one per line; those that the remote lacks are skipped."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc_data.hashfile.hash_info import HashInfo

    md5s = sys.stdin.read().split()
    try:
        with Repo() as repo:
            repo.cloud.pull([HashInfo("md5", md5) for md5 in md5s])
    except (DvcException, OSError) as error:
        sys.exit(" ".join(str(error).split()) or type(error).__name__)


if __name__ == "__main__":
    main()
