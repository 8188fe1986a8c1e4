"""At the first start of the compose files: passwords, as files in the folder that is the first argument.

`postgres-password` for the server, `postgres-url` for the services, `grafana-password` for its user admin. What is
there already is kept: who has their own password puts it there.
"""

import secrets
import sys
from pathlib import Path
from urllib.parse import quote


def write_new(path: Path, text: str) -> None:
    """Write in one step, so that an interrupted start leaves no half a secret."""
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.chmod(0o444)  # the server and the services are different users; the folder is mounted by nobody else
    draft.rename(path)


def main(folder: Path, server: str) -> None:
    """`server` is `user@host:port/database`."""
    password, url = folder / "postgres-password", folder / "postgres-url"
    for path in (password, folder / "grafana-password"):
        if not path.exists():
            write_new(path, secrets.token_urlsafe(32))
    user, place = server.split("@")
    if not url.exists():
        write_new(url, f"postgresql://{user}:{quote(password.read_text().strip(), safe='')}@{place}\n")
    sys.stdout.write(f"in {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
